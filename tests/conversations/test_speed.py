"""What an engine takes a token is found from what a build would ask it, and told in GPU seconds."""

import asyncio

import pytest
from fake_engine import FakeEngine, make_prompt, reply_to
from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversations.engine import RequestError
from pipeline.conversations.speed import measure_speed
from schemas.base import InputError

SLOTS = 4


class Timed(FakeEngine):
    """Takes so many seconds a token, on a clock of its own; the first prompt takes longer, as kernels start."""

    def __init__(self, prompt_token, reply_token):
        super().__init__(SLOTS)
        self.rates = prompt_token, reply_token
        self.now = 0.0
        self.prompts = []

    async def ask(self, prompt):
        self.flying += 1
        self.most_flying = max(self.flying, self.most_flying)
        await asyncio.sleep(0)
        self.flying -= 1
        self.prompts.append(prompt)
        if prompt.key == "refused":
            raise RequestError("too long")
        tokens = 100 + prompt.seed % 7, max(1, prompt.max_tokens // 2)
        self.now += sum(rate * number for rate, number in zip(self.rates, tokens, strict=True))
        self.now += 1_000 if len(self.prompts) == 1 else 0
        return reply_to(prompt).model_copy(update={"prompt_tokens": tokens[0], "output_tokens": tokens[1]})


class Wordy(Timed):
    async def ask(self, prompt):
        return (await super().ask(prompt)).model_copy(update={"prompt_tokens": 10, "output_tokens": 20})


def prompts_of(number, *, refused=()):
    return [make_prompt(n, max_tokens=40 + n % 5, key="refused" if n in refused else None) for n in range(number)]


@given(st.integers(3, 40), st.floats(1e-6, 1e-2), st.floats(1e-6, 1e-2), st.integers(1, 8))
def test_both_rates_are_found(number, prompt_token, reply_token, devices):
    engine = Timed(prompt_token, reply_token)
    found = measure_speed(engine, prompts_of(number), devices, clock=lambda: engine.now)
    # To what is left of the seconds when those of the other kind are taken away.
    assert found.prompt_token == pytest.approx(devices * prompt_token, rel=1e-6, abs=1e-9)
    assert found.reply_token == pytest.approx(devices * reply_token, rel=1e-6, abs=1e-9)
    assert engine.stops == engine.starts == 1
    assert engine.most_flying <= SLOTS
    assert sorted(p.seed for p in engine.prompts) == list(range(number)), "each is asked once: none is in a cache"


def test_the_engine_is_kept_full():
    engine = Timed(1e-3, 1e-3)
    measure_speed(engine, prompts_of(41), 1, clock=lambda: engine.now)
    assert engine.most_flying == SLOTS


def test_what_is_refused_is_left_out():
    engine = Timed(1e-3, 2e-3)
    found = measure_speed(engine, prompts_of(30, refused={3, 4, 9}), 1, clock=lambda: engine.now)
    assert (found.prompt_token, found.reply_token) == (pytest.approx(1e-3), pytest.approx(2e-3))


@pytest.mark.parametrize(
    ("engine", "number", "words"),
    [
        (Timed(1, 1), 2, "2 talks are too few to measure with: give 3 or more"),
        (FakeEngine(refused={p.address for p in prompts_of(9)}), 9, "refuses what it is measured with: too long"),
        (Wordy(1, 1), 9, "as much for one token as for a whole reply"),
        (FakeEngine(killed={prompts_of(9)[4].address}), 9, "lost while it was measured: the core died"),
    ],
)
def test_what_cannot_be_measured_is_told(engine, number, words):
    with pytest.raises(InputError, match=words):
        measure_speed(engine, prompts_of(number), 1)
    assert engine.stops == engine.starts
