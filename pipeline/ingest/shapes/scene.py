"""The script of a film: shapes, their colours, and where each of them is at time t."""

import random
from dataclasses import dataclass
from typing import Literal

from schemas.sample import Split

NANOSECONDS = 1_000_000_000

SIDE = 128
"""Width and height of a film, pixels."""

Kind = Literal["circle", "square", "triangle", "cross"]
KINDS: tuple[Kind, ...] = ("circle", "square", "triangle", "cross")

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "yellow": (240, 210, 30),
    "green": (40, 180, 60),
    "cyan": (40, 200, 215),
    "blue": (40, 70, 230),
    "purple": (165, 50, 200),
}
"""RGB 0..255; the hues lie at least 45 degrees apart."""

DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "still": (0, 0),
}
"""Unit steps (x, y); y grows downwards, as in an image."""

START_SECONDS = (0, 1, 2, 3)
"""When a shape of a film in turn may appear: whole seconds, so that rounding cannot change the answer."""

_GREYS = (24, 48)
"""Range of the background, 0..255. Always dark: light and dark ones by turns would vary features far
more than what moves before them, and a small model would learn the background first."""

_FORMS = ((1, False), (1, False), (1, False), (2, False), (3, False), (2, True), (3, True), (4, True))
"""(shapes, in turn), equally likely: in three films of four, no frame shows more than one shape."""


@dataclass(frozen=True)
class Mover:
    """One shape on a straight path, shown in [start_ns, exclusive_end_ns) and crossing it evenly."""

    kind: Kind
    colour: str
    direction: str
    start_ns: int
    exclusive_end_ns: int
    middle: tuple[int, int]
    """Where it is half-way, (x, y) in pixels. It is drawn without regard to the direction, so that
    the middle frame of a film says nothing about the way a shape moves."""
    radius: int
    """Half the side of its bounding square, pixels."""
    travel: int
    """Length of the path, pixels."""

    def shown(self, t_ns: int) -> bool:
        """Whether a viewer sees it at `t_ns`."""
        return self.start_ns <= t_ns < self.exclusive_end_ns

    def centre(self, t_ns: int) -> tuple[int, int]:
        """Centre (x, y) in whole pixels at `t_ns`, halves rounded to even."""
        span = self.exclusive_end_ns - self.start_ns
        done = round(self.travel * (t_ns - self.start_ns) / span - self.travel / 2)
        step_x, step_y = DIRECTIONS[self.direction]
        return self.middle[0] + step_x * done, self.middle[1] + step_y * done


@dataclass(frozen=True)
class Film:
    """A plain dark background and what moves before it. No two shapes ever touch."""

    fps: int
    seconds: int
    background: tuple[int, int, int]
    movers: tuple[Mover, ...]
    """In order of appearance."""
    in_turn: bool


@dataclass(frozen=True)
class _Room:
    """A square that a shape never leaves, whichever way it goes. All in pixels, as in `Mover`."""

    side: int
    radius: int
    travel: int

    def place(self, rng: random.Random, corner: tuple[int, int]) -> tuple[int, int]:
        """The middle of a path within the square whose top left corner is (x, y)."""
        margin = self.radius + self.travel // 2
        x, y = (start + rng.randint(margin, self.side - margin) for start in corner)
        return x, y


_WHOLE = _Room(side=SIDE, radius=30, travel=44)
_QUARTER = _Room(side=SIDE // 2, radius=19, travel=26)
"""Shapes shown together have a quarter of the picture each, so that none hides another."""


def stream(seed: int, split: Split, index: int, purpose: str) -> random.Random:
    """The random numbers of one film and one purpose: the same in any process, in any order of work."""
    return random.Random(f"shapes/{seed}/{split}/{index}/{purpose}")


def draw_film(rng: random.Random) -> Film:
    """A film of 4 to 6 s at 8 to 12 fps; kinds and colours do not repeat within it."""
    count, in_turn = rng.choice(_FORMS)
    fps, seconds = rng.choice((8, 10, 12)), rng.choice((4, 5, 6))
    grey = rng.randint(*_GREYS)
    spans = _spans(rng, count, seconds) if in_turn else [(0, seconds)] * count
    cells = rng.sample([(0, 0), (0, 64), (64, 0), (64, 64)], count)
    kinds, colours = rng.sample(KINDS, count), rng.sample(tuple(COLOURS), count)
    movers = []
    for span, cell, kind, colour in zip(spans, cells, kinds, colours, strict=True):
        alone = in_turn or count == 1
        corner, room = ((0, 0), _WHOLE) if alone else (cell, _QUARTER)
        direction, middle = rng.choice(tuple(DIRECTIONS)), room.place(rng, corner)
        start_ns, exclusive_end_ns = (second * NANOSECONDS for second in span)
        movers.append(Mover(kind, colour, direction, start_ns, exclusive_end_ns, middle, room.radius, room.travel))
    return Film(fps, seconds, (grey, grey, grey), tuple(movers), in_turn)


def _spans(rng: random.Random, count: int, seconds: int) -> list[tuple[int, int]]:
    starts = sorted(rng.sample(START_SECONDS, count))
    return list(zip(starts, [*starts[1:], seconds], strict=True))
