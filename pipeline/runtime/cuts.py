"""Things in an order, cut into runs by number and by size: parts of a pass by cost, a split's samples by bytes."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Bound:
    """What a run may hold; one thing that is larger by itself is a run of its own."""

    most: int
    """Things."""
    size: int
    """Of them together."""


def runs(
    things: Iterable[Thing],
    size_of: Callable[[Thing], int],
    bound: Bound,
    starts: Container[int] = (),
    free_from: int = 0,
) -> Iterator[list[Thing]]:
    """Cuts `things` where `starts` says; from the place `free_from` on also before what would break the bound.

    A thing is taken when the run before it has been given out, or to see that it fits no more. Where the cuts are
    follows from the sizes alone, and a cut from what stands before it and right behind it.
    """
    run: list[Thing] = []
    held = 0
    for at, thing in enumerate(things):
        size = size_of(thing) if at >= free_from else 0
        if run and at > free_from and held + size > bound.size:
            yield run
            run, held = [], 0
        run.append(thing)
        held += size
        if at + 1 in starts or (at >= free_from and len(run) >= bound.most):
            yield run
            run, held = [], 0
    if run:
        yield run
