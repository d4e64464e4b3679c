"""Bins of a histogram and words for numbers: the arithmetic behind the report's page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from schemas.units import Unit

MOST_BINS = 24
MOST_TICKS = 6
SMALLEST = 1e-6
"""Lengths below this are drawn as none: edges are rounded to nine decimals."""


@dataclass(frozen=True)
class Bin:
    """Values in [start, exclusive_end)."""

    place: int
    """Bins before it."""
    start: float
    exclusive_end: float
    values: int


@dataclass(frozen=True)
class Histogram:
    """Bins from zero on, and what the values say in three numbers."""

    bins: tuple[Bin, ...]
    ticks: tuple[float, ...]
    """Edges that get a label, the first and evenly on."""
    values: int
    median: float
    maximum: float

    @property
    def tallest(self) -> int:
        """Values in the fullest bin."""
        return max(each.values for each in self.bins)

    @property
    def exclusive_end(self) -> float:
        """Where the axis ends."""
        return self.bins[-1].exclusive_end


def nice_step(length: float, most: int) -> float:
    """The smallest of 1, 2, 5 x 10^k of which fewer than `most` whole ones fit; 1 if `length` is (nearly) none."""
    if length < SMALLEST:
        return 1.0
    exponent = math.floor(math.log10(length / most))
    candidates = (digit * 10.0**power for power in (exponent, exponent + 1) for digit in (1, 2, 5))
    return next(step for step in candidates if _whole(length, step) < most)


def histogram(values: Sequence[float]) -> Histogram | None:
    """Bins of equal, round width from zero to beyond the largest of non-negative `values`; None for no values."""
    if not values:
        return None
    largest = max(values)
    step = nice_step(largest, MOST_BINS)
    counts = [0] * (_whole(largest, step) + 1)
    for value in values:
        counts[_whole(value, step)] += 1
    edges = [_round(index * step) for index in range(len(counts) + 1)]
    every = math.ceil(len(edges) / MOST_TICKS)
    bins = tuple(Bin(place, edges[place], edges[place + 1], count) for place, count in enumerate(counts))
    return Histogram(bins, tuple(edges[::every]), len(values), median(values), largest)


def _whole(value: float, step: float) -> int:
    """Whole steps in `value`; 0.3 counts as three of 0.1, which binary floats alone would deny."""
    return math.floor(round(value / step, 9))


def _round(value: float) -> float:
    return round(value, 9)


def percent(part: int, whole: int) -> str:
    """`12 %` where two decimals tell it exactly, else `≈ 33.33 %`; a dash of nothing."""
    if not whole:
        return "–"
    return percent_words(Fraction(100 * part, whole))


def percent_words(share: Fraction) -> str:
    """As `percent`, of a share that is in percent already."""
    rounded = round(share, 2)
    words = f"{float(rounded):.2f}".rstrip("0").rstrip(".")
    return f"{words} %" if rounded == share else f"≈ {words} %"


def amount(number: int, unit: Unit) -> str:
    """A number of what is counted in a unit: seconds from their nanoseconds."""
    return f"{number:,}" if unit.whole == 1 else f"{number / unit.whole:,.3f}"


def width(part: int, whole: int) -> float:
    """Length of a bar, 0 to 100."""
    return round(100 * part / whole, 3) if whole else 0.0


def short_bytes(count: int) -> str:
    """Decimal units, three digits: `1.23 MB`."""
    size, units = float(count), iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while size >= 999.5:
        size, unit = size / 1000, next(units, "EB")
    return f"{size:.3g} {unit}"


def short_duration(time_ns: int) -> str:
    """`0 s`, `12.5 s`, `3 min 20 s`, `5 h 7 min`: the two largest units."""
    seconds = time_ns / 1e9
    if round(seconds, 1) < 60:
        return f"{_trim(seconds, 1)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def difference(count: int) -> str:
    """`+2`, `0`, `−2`, with a true minus."""
    return f"{count:+,}".replace("-", "−") if count else "0"


def number(value: float) -> str:
    """At most three decimals, none for nothing: `0.5`, `16.683`, `12`."""
    return _trim(value, 3)


def _trim(value: float, decimals: int) -> str:
    words = f"{value:,.{decimals}f}"
    return words.rstrip("0").rstrip(".")
