"""When a sample is seen and how fast is learnt: pure functions of seed, stage, epoch and step."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice


def rank(seed: int, stage: str, epoch: int, position: int) -> bytes:
    """Decides when the sample at `position` comes up in an epoch."""
    return hashlib.sha256(f"{seed}/{stage}/{epoch}/{position}".encode()).digest()


def order(seed: int, stage: str, epoch: int, positions: Sequence[int]) -> list[int]:
    """`positions`, shuffled. Two samples keep their order when others join or leave."""
    return sorted(positions, key=lambda position: rank(seed, stage, epoch, position))


def stream(seed: int, stage: str, epochs: Fraction, positions: Sequence[int]) -> Iterator[int]:
    """`floor(epochs * len(positions))` positions: whole epochs, each in its own order, then a part of one."""
    left = math.floor(epochs * len(positions))
    for epoch in range(math.ceil(epochs)):
        yield from islice(order(seed, stage, epoch, positions), left)
        left -= len(positions)


def batches(positions: Iterator[int], size: int) -> Iterator[tuple[int, ...]]:
    """Batches of `size`, in order; the last may be smaller."""
    while batch := tuple(islice(positions, size)):
        yield batch


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the full rate at 0-based `step`: linear over the first `ceil(warmup * steps)`, then cosine to 0.

    Apollo, section C.4: cosine with a warm-up ratio of 0.03.
    """
    warm = math.ceil(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
