"""How fast an engine reads prompts and writes replies, measured with those that a build would send."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.conversations.engine import Completion, Engine, EngineLostError, Prompt, RequestError
from schemas.base import InputError
from schemas.capacity import TokenSeconds

ROUNDS = 4
"""Prompts asked for each place in the engine, so that the time in which it runs empty does not decide."""
LEAST_PROMPTS = 3
"""The first warms the engine up, one is read, one is answered."""


@dataclass(frozen=True)
class _Measured:
    prompt_tokens: int
    reply_tokens: int
    seconds: float


def measure_speed(
    engine: Engine, prompts: Sequence[Prompt], devices: int, clock: Callable[[], float] = time.perf_counter
) -> TokenSeconds:
    """Device seconds for a token that is read and for one that is written, of `devices` that share the model.

    Every other prompt is answered with one token, then the others in full: two sums, from which the two unknowns
    follow. What prefix caching spares counts as read, as it does in a plan. Starts the engine and stops it. Raises
    InputError for fewer than LEAST_PROMPTS, or where it refuses them all or is lost.
    """
    if len(prompts) < LEAST_PROMPTS:
        raise InputError(f"{len(prompts)} talks are too few to measure with: give {LEAST_PROMPTS} or more")
    try:
        engine.start()
        read, written = asyncio.run(_halves(engine, prompts, clock))
    except EngineLostError as error:
        raise InputError(f"the engine was lost while it was measured: {error}") from error
    finally:
        engine.stop()
    # seconds = prompt_tokens * prompt_token + reply_tokens * reply_token, of each half
    difference = read.prompt_tokens * written.reply_tokens - written.prompt_tokens * read.reply_tokens
    if difference <= 0:
        raise InputError(f"the engine wrote as much for one token as for a whole reply: {read}, {written}")
    scale = devices / difference
    prompt_token = read.seconds * written.reply_tokens - written.seconds * read.reply_tokens
    reply_token = read.prompt_tokens * written.seconds - written.prompt_tokens * read.seconds
    return TokenSeconds(prompt_token=max(0.0, scale * prompt_token), reply_token=max(0.0, scale * reply_token))


async def _halves(
    engine: Engine, prompts: Sequence[Prompt], clock: Callable[[], float]
) -> tuple[_Measured, _Measured]:
    await _ask(engine, prompts[:1], clock)
    unanswered = [prompt.model_copy(update={"max_tokens": 1}) for prompt in prompts[1::2]]
    return await _ask(engine, unanswered, clock), await _ask(engine, prompts[2::2], clock)


async def _ask(engine: Engine, prompts: Sequence[Prompt], clock: Callable[[], float]) -> _Measured:
    places = asyncio.Semaphore(engine.slots)

    async def ask(prompt: Prompt) -> Completion | RequestError:
        async with places:
            try:
                return await engine.ask(prompt)
            except RequestError as error:
                return error

    begin = clock()
    outcomes = await asyncio.gather(*map(ask, prompts))
    seconds = clock() - begin
    replies = [each for each in outcomes if isinstance(each, Completion)]
    if not replies:
        raise InputError(f"the engine refuses what it is measured with: {outcomes[0]}")
    return _Measured(
        sum(each.prompt_tokens for each in replies), sum(each.output_tokens for each in replies), seconds
    )
