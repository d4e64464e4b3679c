"""What calibration measures of the real engine foretells how long other prompts take: `make test-vllm`."""

import time

import pytest
from talk_prompts import prompt_of

from pipeline.conversations.speed import measure_speed

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


def test_other_prompts_take_what_the_rates_say(tiny_model, engine_for, ask_all):
    speed = measure_speed(engine_for(tiny_model), [prompt_of(number) for number in range(257)], devices=1)
    assert speed.reply_token > 0
    engine = engine_for(tiny_model)
    engine.start()
    ask_all(engine, [prompt_of(1_000)])
    begin = time.perf_counter()
    replies = ask_all(engine, [prompt_of(number) for number in range(300, 428)])
    seconds = time.perf_counter() - begin
    foretold = sum(r.prompt_tokens * speed.prompt_token + r.output_tokens * speed.reply_token for r in replies)
    assert 1 / 3 < foretold / seconds < 3, (foretold, seconds)
