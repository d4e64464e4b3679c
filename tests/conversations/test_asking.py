"""Laws of asking: every prompt ends once, nothing that was answered is asked again, and the poison is found."""

import asyncio
import math
import tempfile
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_engine import FakeEngine, make_prompt, reply_to
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversations.allowance import Allowance
from pipeline.conversations.asking import Asker, PoisonError
from pipeline.conversations.cache import RequestCache
from pipeline.conversations.engine import BindingError, EngineLostError, RequestError
from pipeline.conversations.serving import Serving
from pipeline.runtime.contract import ContractError

PROMPTS = [make_prompt(number) for number in range(30)]
ADDRESSES = [prompt.address for prompt in PROMPTS]
chosen = st.sets(st.integers(0, 29), max_size=4).map(lambda numbers: {ADDRESSES[number] for number in numbers})


def asker_of(engine, folder, **options):
    options = {"stall_s": 5.0, "restarts": 8, "commit_s": 0.002, **options}
    return Asker(engine, RequestCache(folder), **options)


async def outcome(asker, prompt):
    """Its reply, or the error that is its own."""
    try:
        return await asker.ask(prompt)
    except (PoisonError, RequestError) as error:
        return type(error)


def ask_all(asker, prompts):
    return asker.run(outcome(asker, prompt) for prompt in prompts)


def expected(prompts, poison=(), refused=()):
    def one(prompt):
        if prompt.address in poison:
            return PoisonError
        return RequestError if prompt.address in refused else reply_to(prompt)

    return [one(prompt) for prompt in prompts]


def most_starts(engine, faults):
    return 1 + faults * (math.ceil(math.log2(engine.slots)) + 3)


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(1, 12), chosen, chosen, chosen, st.integers(1, 3))
def test_every_prompt_ends_once_as_undisturbed_whatever_ends_the_engine(
    total, slots, poison, refused, killed, threads
):
    prompts, refused = PROMPTS[:total], refused - poison
    engine = FakeEngine(slots, poison=poison, refused=refused, killed=killed)
    with tempfile.TemporaryDirectory() as folder:
        with asker_of(engine, Path(folder)) as asker, ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda n: ask_all(asker, prompts[n::threads]), range(threads)))
        assert [out for part in parts for out in part] == [
            out for n in range(threads) for out in expected(prompts[n::threads], poison, refused)
        ]
        assert engine.starts <= most_starts(engine, len(poison) + len(killed))
        assert engine.most_flying <= slots
        again = FakeEngine(slots, poison=poison, refused=refused)
        with asker_of(again, Path(folder)) as asker:
            assert ask_all(asker, prompts) == expected(prompts, poison, refused)
    assert max(engine.answered.values(), default=0) <= 1
    assert not again.answered
    assert set(again.asked) <= poison | refused
    assert engine._life == again._life == 0


@settings(max_examples=8)
@given(st.integers(2, 12), st.integers(1, 6), st.sets(st.integers(0, 11), min_size=1, max_size=2))
def test_a_prompt_that_hangs_the_engine_is_found_as_one_that_kills_it(total, slots, hanging):
    prompts, hanging = PROMPTS[:total], {ADDRESSES[number] for number in hanging if number < total}
    engine = FakeEngine(slots, hanging=hanging)
    with tempfile.TemporaryDirectory() as folder, asker_of(engine, Path(folder), stall_s=0.05) as asker:
        assert ask_all(asker, prompts) == expected(prompts, hanging)
    assert engine.starts <= most_starts(engine, len(hanging))
    assert max(engine.answered.values(), default=0) <= 1


def test_a_pause_of_the_whole_process_is_not_taken_for_a_stall_of_the_engine(tmp_path):
    engine = FakeEngine(4)
    engine.delay_s = 0.1

    async def pause():
        await asyncio.sleep(0.05)
        time.sleep(1)

    with asker_of(engine, tmp_path, stall_s=0.5) as asker:
        asker.run([pause(), *(outcome(asker, prompt) for prompt in PROMPTS[:4])])
    assert engine.starts == 1


def test_one_poison_among_256_costs_no_more_than_eleven_restarts_and_one_kill_costs_one(tmp_path):
    prompts = [make_prompt(number) for number in range(300)]
    engine = FakeEngine(256, poison={prompts[0].address})
    engine.delay_s = 0.0
    with asker_of(engine, tmp_path / "poison", restarts=1) as asker:
        assert ask_all(asker, prompts) == expected(prompts, engine.poison)
    assert engine.starts <= 1 + 11
    engine = FakeEngine(256, killed={prompts[100].address})
    with asker_of(engine, tmp_path / "killed", restarts=0) as asker:
        assert ask_all(asker, prompts) == expected(prompts)
    assert engine.starts == 2


def test_a_reply_of_the_last_moment_is_kept_though_the_engine_is_lost(tmp_path):
    class Late(FakeEngine):
        async def ask(self, prompt):
            if prompt != PROMPTS[0]:
                return await super().ask(prompt)
            self.asked[prompt.address] += 1
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:  # it was done before it heard of its end
                return reply_to(prompt)

    engine = Late(killed={ADDRESSES[1]})
    with asker_of(engine, tmp_path) as asker:
        assert ask_all(asker, PROMPTS[:3]) == expected(PROMPTS[:3])
    assert engine.asked[ADDRESSES[0]] == 1
    assert engine.starts == 2


def test_a_complete_cache_starts_no_engine(tmp_path):
    with asker_of(FakeEngine(), tmp_path) as asker:
        ask_all(asker, PROMPTS)
    engine = FakeEngine()
    with asker_of(engine, tmp_path) as asker:
        assert ask_all(asker, PROMPTS) == expected(PROMPTS)
    assert engine.starts == 0


def test_equal_prompts_of_several_samples_are_asked_once_and_each_gets_its_own_key(tmp_path):
    engine = FakeEngine()
    prompts = [make_prompt(1, key=f"sample-{number}") for number in range(9)]
    with asker_of(engine, tmp_path) as asker:
        found = ask_all(asker, prompts)
        found += ask_all(asker, prompts)
    assert found == expected(prompts) * 2
    assert engine.asked.total() == 1


def test_a_reply_is_handed_on_only_when_a_kill_cannot_take_it_away(tmp_path):
    with asker_of(FakeEngine(), tmp_path) as asker:

        async def ask(prompt):
            completion = await asker.ask(prompt)
            return RequestCache(tmp_path).get_many([completion.address])[0] == completion

        assert all(asker.run(ask(prompt) for prompt in PROMPTS[:4]))


def test_replies_that_cannot_be_kept_are_not_handed_on_and_are_kept_by_the_next_commit(tmp_path, monkeypatch):
    engine = FakeEngine()
    with asker_of(engine, tmp_path) as asker:
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.conversations.cache.write_segment", _full)
            with pytest.raises(OSError, match="no room"):
                ask_all(asker, PROMPTS[:3])
        assert ask_all(asker, PROMPTS[3:4]) == expected(PROMPTS[3:4])
        assert ask_all(asker, PROMPTS[:3]) == expected(PROMPTS[:3])
    assert max(engine.answered.values()) == 1


def _full(*_):
    raise OSError("no room")


@pytest.mark.parametrize("swapped", [1, 3])
def test_a_reply_under_another_name_stops_the_run(tmp_path, swapped):
    engine = FakeEngine(swapped=ADDRESSES[:swapped])
    with asker_of(engine, tmp_path) as asker, pytest.raises(BindingError, match="'other'") as raised:
        ask_all(asker, PROMPTS)
    assert isinstance(raised.value, ContractError)
    assert not set(ADDRESSES[:swapped]) & {
        found.address for found in RequestCache(tmp_path).get_many(ADDRESSES) if found
    }


def test_an_engine_that_fails_to_start_now_and_then_is_tried_again(tmp_path):
    engine = FakeEngine()
    engine.faulty_starts = 2
    with asker_of(engine, tmp_path, restarts=2) as asker:
        assert ask_all(asker, PROMPTS) == expected(PROMPTS)
    assert engine.starts == 3


def test_an_engine_that_cannot_start_ends_the_run_and_says_why(tmp_path):
    engine = FakeEngine()
    engine.faulty_starts = 99
    with asker_of(engine, tmp_path, restarts=2) as asker:
        for _ in range(2):  # later askers are told as well
            with pytest.raises(EngineLostError, match="2 restarts brought no reply: no room on the GPU"):
                ask_all(asker, PROMPTS)
    assert engine.starts == 3


def test_an_ill_engine_makes_no_prompt_a_poison(tmp_path):
    engine = FakeEngine(8)
    engine.ill = True
    told = []

    async def ask(asker, prompt):
        try:
            await asker.ask(prompt)
        except (PoisonError, EngineLostError) as error:
            told.append(type(error))

    with asker_of(engine, tmp_path, restarts=2) as asker:
        asker.run(ask(asker, prompt) for prompt in PROMPTS)
    assert told == [EngineLostError] * len(PROMPTS)
    assert engine.starts <= 3 * (3 + 3)


def test_what_is_no_loss_of_the_engine_is_raised_as_it_is(tmp_path):
    class Broken(FakeEngine):
        def start(self):
            raise ModuleNotFoundError("No module named 'vllm'")

    with asker_of(Broken(), tmp_path) as asker, pytest.raises(ModuleNotFoundError, match="vllm"):
        ask_all(asker, PROMPTS)


def test_a_caller_that_gives_up_frees_its_slot(tmp_path):
    engine = FakeEngine(1, hanging={ADDRESSES[0]})

    async def impatient(asker):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asker.ask(PROMPTS[0]), 0.2)
        engine._hung = False
        return await asker.ask(PROMPTS[1])

    with asker_of(engine, tmp_path, stall_s=60) as asker:
        assert asker.run([impatient(asker)]) == [reply_to(PROMPTS[1])]
    assert engine.flying == 0
    assert engine.starts == 1


def test_an_error_of_one_coroutine_ends_the_others_of_its_run_and_none_of_another(tmp_path):
    engine = FakeEngine(4, hanging={ADDRESSES[0]})

    async def fail():
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    with asker_of(engine, tmp_path, stall_s=60) as asker:
        with pytest.raises(ZeroDivisionError):
            asker.run([outcome(asker, PROMPTS[0]), fail()])
        engine._hung = False
        assert ask_all(asker, PROMPTS[1:]) == expected(PROMPTS[1:])
    assert engine.flying == 0


@pytest.mark.parametrize("when", ["idle", "at work", "hung", "starting"])
def test_close_ends_loop_thread_and_engine(tmp_path, when, monkeypatch):
    engine = FakeEngine(4, hanging={ADDRESSES[0]} if when == "hung" else ())
    engine.delay_s = 0.02
    begun, ended = threading.Event(), threading.Event()
    if when == "starting":
        monkeypatch.setattr(engine, "start", lambda: (begun.set(), ended.wait(20), FakeEngine.start(engine)))
        monkeypatch.setattr(engine, "stop", lambda: (ended.set(), FakeEngine.stop(engine)))
    before = threading.active_count()
    asker = asker_of(engine, tmp_path, stall_s=60)
    if when != "idle":
        runs = threading.Thread(target=_cut_short, args=(asker,))
        runs.start()
        assert begun.wait(20) if when == "starting" else _eventually(lambda: engine.asked)
    start = time.monotonic()
    asker.close()
    asker.close()
    assert time.monotonic() - start < 10
    assert engine.stops >= 1
    assert engine._life == 0
    assert engine.flying == 0
    if when != "idle":
        runs.join(20)
    assert _eventually(lambda: threading.active_count() <= before)
    kept = {found.address for found in RequestCache(tmp_path).get_many(ADDRESSES) if found}
    assert kept == set(engine.answered) & set(ADDRESSES)


def test_a_reply_that_comes_as_the_run_is_ended_is_handed_on():
    gate = asyncio.Event()

    class Gated(FakeEngine):
        async def ask(self, prompt):
            self.asked[prompt.address] += 1
            await gate.wait()
            return reply_to(prompt)

    async def end_at_once():
        engine = Gated()
        serving = Serving(engine, Allowance(), 60, 0)
        server = asyncio.create_task(serving.run())
        asking = asyncio.create_task(serving.ask(PROMPTS[0], ADDRESSES[0]))
        while not engine.asked:
            await asyncio.sleep(0.001)
        gate.set()
        await asyncio.sleep(0)
        server.cancel()
        return await asyncio.wait_for(asking, 5)

    assert asyncio.run(end_at_once()) == reply_to(PROMPTS[0])


def _cut_short(asker):
    with pytest.raises(CancelledError):
        ask_all(asker, [make_prompt(number) for number in range(500)])


def _eventually(condition, limit_s=20.0):
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()
