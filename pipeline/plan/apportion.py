"""Integers in proportion to weights, by the largest-remainder rule; never a float.

Hamilton's method: each part gets the floor of its exact share, and what is left over goes to the largest
remainders, one each. Ties go to the part named first.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import floor


def apportion(
    total: int,
    weights: Mapping[str, Fraction],
    floors: Mapping[str, int] | None = None,
    caps: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """`total` split in proportion to `weights`: the parts sum to `total`, each within one of its exact share.

    A part whose share lies below its floor gets its floor, one above its cap its cap; the others divide the rest in
    proportion. Raises ValueError for a negative weight, or when floors, caps and weights cannot make the total.
    """
    return rounded(total, shared(total, weights, floors, caps))


def shared(
    total: int,
    weights: Mapping[str, Fraction],
    floors: Mapping[str, int] | None = None,
    caps: Mapping[str, int] | None = None,
) -> dict[str, Fraction]:
    """The exact shares, before they are rounded: `min(cap, max(floor, level * weight))` of one level for all."""
    low = {name: Fraction((floors or {}).get(name, 0)) for name in weights}
    high = {name: Fraction(caps[name]) if caps and name in caps else None for name in weights}
    _check(total, weights, low, high)
    return _at(_level(total, weights, low, high), weights, low, high)


def rounded(total: int, exact: Mapping[str, Fraction]) -> dict[str, int]:
    """Exact shares that sum to `total`, as integers that do."""
    parts = {name: floor(share) for name, share in exact.items()}
    rank = {name: index for index, name in enumerate(exact)}
    by_remainder = sorted(exact, key=lambda name: (parts[name] - exact[name], rank[name]))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


Bounds = Mapping[str, Fraction]
Caps = Mapping[str, Fraction | None]


def _check(total: int, weights: Mapping[str, Fraction], low: Bounds, high: Caps) -> None:
    if bad := {name: weight for name, weight in weights.items() if weight < 0}:
        raise ValueError(f"negative weights {bad}")
    if total and not any(weights.values()):
        raise ValueError(f"{total} to share, but every weight is zero: {list(weights)}")
    if crossed := [name for name, cap in high.items() if cap is not None and cap < low[name]]:
        raise ValueError(f"the floor of {', '.join(crossed)} lies above its cap")
    if (least := sum(low.values())) > total:
        raise ValueError(f"the floors sum to {least}, more than the {total} there are to share")
    caps = [high[name] if weight else low[name] for name, weight in weights.items()]
    if None not in caps and (most := sum(cap for cap in caps if cap is not None)) < total:
        raise ValueError(f"the caps sum to {most}, less than the {total} to share")


def _at(level: Fraction, weights: Mapping[str, Fraction], low: Bounds, high: Caps) -> dict[str, Fraction]:
    shares = {name: max(low[name], level * weight) for name, weight in weights.items()}
    return {name: share if (cap := high[name]) is None else min(cap, share) for name, share in shares.items()}


def _level(total: int, weights: Mapping[str, Fraction], low: Bounds, high: Caps) -> Fraction:
    """The level at which the shares sum to `total`: their sum is piecewise linear in it and never falls."""
    weighted = {name: weight for name, weight in weights.items() if weight}
    bends = {low[name] / weight for name, weight in weighted.items()}
    bends |= {cap / weight for name, weight in weighted.items() if (cap := high[name]) is not None}
    start = Fraction(0)
    for bend in sorted(bends):
        if sum(_at(bend, weights, low, high).values()) >= total:
            break
        start = bend
    at_start = sum(_at(start, weights, low, high).values(), Fraction(0))
    free = [
        weight
        for name, weight in weighted.items()
        if start * weight >= low[name] and ((cap := high[name]) is None or start * weight < cap)
    ]
    return start + (total - at_start) / sum(free) if free else start
