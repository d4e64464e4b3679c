"""Laws of the engine on vLLM's CPU build with a tiny model: `make test-vllm`."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError
from talk_prompts import Talk, prompt_of

from pipeline.conversations.engine import Completion, EngineLostError, RequestError
from pipeline.conversations.vllm_engine import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def engine(tiny_model, engine_for) -> VllmEngine:
    engine = engine_for(tiny_model)
    engine.start()
    return engine


def below_us() -> list[psutil.Process]:
    """Processes of vLLM under this one. Python's own resource tracker ends with us, and is none of them."""
    below = psutil.Process().children(recursive=True)
    return [each for each in below if each.name().startswith("VLLM") and each.status() != psutil.STATUS_ZOMBIE]


def core() -> psutil.Process:
    return next(each for each in below_us() if each.parent() == psutil.Process())


def valid(text: str) -> bool:
    try:
        Talk.model_validate_json(text)
    except ValidationError:
        return False
    return True


def test_random_weights_keep_to_the_schema_at_the_first_try(engine, ask_all):
    prompts = [prompt_of(number) for number in range(200)]
    answers = ask_all(engine, prompts)
    assert [(answer.key, answer.address) for answer in answers] == [(each.key, each.address) for each in prompts]
    assert len({answer.text for answer in answers}) > 190
    assert sum(valid(answer.text) for answer in answers) >= 198
    assert all(re.match(r'\{"\w+":\S', answer.text) for answer in answers)  # no white space to get lost in


def test_a_reply_follows_from_its_prompt_alone_whatever_is_in_the_batch(engine, ask_all):
    prompts = [prompt_of(number) for number in range(60)]
    first = [answer.text for answer in ask_all(engine, prompts, at_once=3)]
    second = [answer.text for answer in ask_all(engine, prompts[::-1], at_once=36)][::-1]
    assert first == second


def test_what_prompts_begin_alike_is_computed_once_and_counted(engine, ask_all):
    ask_all(engine, [prompt_of(1)])
    (answer,) = ask_all(engine, [prompt_of(2)])
    assert 0 < answer.cached_tokens < answer.prompt_tokens
    assert 0 < answer.output_tokens <= 640


def test_prompts_that_no_step_takes_whole_do_not_end_the_core(engine, ask_all):
    answers = ask_all(engine, [prompt_of(number, f"{number} " * 250) for number in range(36)])
    assert all(isinstance(answer, Completion) for answer in answers)
    assert sum(answer.prompt_tokens for answer in answers) > 36 * 1000


@pytest.mark.parametrize(
    ("content", "schema", "says"),
    [
        ("word " * 3000, "", "max_model_len"),
        ("word " * 330, "", "of reply are more than max_model_len"),
        ("", '{"type":"array","uniqueItems":true}', "uniqueItems"),
        ("", "{not a schema", "refused"),
    ],
)
def test_a_prompt_that_cannot_be_answered_is_refused_and_the_engine_is_well(engine, ask_all, content, schema, says):
    bad, good = ask_all(engine, [prompt_of(1, content, schema), prompt_of(2)])
    assert isinstance(bad, RequestError)
    assert says in str(bad)
    assert isinstance(good, Completion)


def test_cancelling_frees_the_place(engine, run, ask_all):
    async def give_up() -> None:
        asked = [asyncio.create_task(engine.ask(prompt_of(number))) for number in range(64)]
        await asyncio.sleep(0.3)
        for each in asked:
            each.cancel()
        await asyncio.wait(asked)
        await asyncio.sleep(0.5)

    run(give_up())
    assert engine._llm.get_num_unfinished_requests() == 0
    assert isinstance(ask_all(engine, [prompt_of(3)])[0], Completion)


def test_a_killed_core_is_told_to_all_who_wait_and_starts_again_as_it_was(engine, run, ask_all):
    async def kill() -> tuple[list[object], float]:
        asked = [asyncio.create_task(engine.ask(prompt_of(number))) for number in range(64)]
        await asyncio.sleep(0.3)
        core().kill()
        begin = time.monotonic()
        return await asyncio.gather(*asked, return_exceptions=True), time.monotonic() - begin

    before = [answer.text for answer in ask_all(engine, [prompt_of(number) for number in range(20)])]
    answers, seconds = run(kill())
    lost = [answer for answer in answers if not isinstance(answer, Completion)]
    assert len(lost) > 30
    assert all(isinstance(each, EngineLostError) for each in lost)
    assert seconds < 10
    assert isinstance(ask_all(engine, [prompt_of(1)])[0], EngineLostError)
    engine.stop()
    assert below_us() == []
    engine.start()
    assert [answer.text for answer in ask_all(engine, [prompt_of(number) for number in range(20)])] == before


def test_a_stopped_core_is_ended_and_nobody_waits_for_it(engine, run):
    async def stop() -> tuple[list[object], float]:
        asked = [asyncio.create_task(engine.ask(prompt_of(number))) for number in range(64)]
        await asyncio.sleep(0.3)
        core().suspend()
        begin = time.monotonic()
        await asyncio.to_thread(engine.stop)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return answers, time.monotonic() - begin

    answers, seconds = run(stop())
    assert {type(answer) for answer in answers} <= {Completion, EngineLostError}
    assert seconds < 10
    assert below_us() == []
    engine.stop()


def test_core_and_worker_end_when_their_owner_is_killed(tiny_model):
    script = Path(__file__).with_name("engine_owner.py")
    owner = subprocess.Popen([sys.executable, script, tiny_model], stdout=subprocess.PIPE, text=True)
    heirs = [psutil.Process(int(each)) for each in owner.stdout.readline().split()]
    assert len(heirs) >= 2
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 20
    while any(map(lives, heirs)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(lives, heirs))


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
