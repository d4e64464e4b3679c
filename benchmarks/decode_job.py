"""The job that every decoder of the benchmark does, and its answer."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Job:
    """Frames of a grid, to be shown to two encoders: scaled, and padded to each one's square.

    Attributes:
        path: The film.
        times_ns: The grid, from the first frame's pts.
        fps: Frames a second of the grid.
        sizes: Width and height that a frame is scaled to, for each encoder.
        sides: Sides of the squares that these are padded to.
        origin_ns: The first frame's pts.
        loops: How often the job is done between two readings of the clock.
    """

    path: str
    times_ns: tuple[int, ...]
    fps: float
    sizes: tuple[tuple[int, int], ...]
    sides: tuple[int, ...]
    origin_ns: int
    loops: int = 1


@dataclass
class Found:
    """What a decoder brought: how many frames; and which, by pts from the first one's, or by place in the film."""

    frames: int = 0
    pts_ns: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class Peer:
    """A decoder. Its constructor imports what it needs."""

    def prepare(self, job: Job) -> None:
        """What the job presupposes; not timed."""

    def run(self, job: Job) -> Found:
        """Does the job once."""
        raise NotImplementedError


def padded(array: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`[side, side, 3] uint8`: the array in the middle of a grey square."""
    height, width, _ = array.shape
    top, left = (side - height) // 2, (side - width) // 2
    square = _grey(side).copy()
    square[top : top + height, left : left + width] = array
    return square


@lru_cache(maxsize=4)
def _grey(side: int) -> NDArray[np.uint8]:
    return np.full((side, side, 3), 127, np.uint8)
