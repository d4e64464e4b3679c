"""The order of a split that was there before: what stays keeps its place, so that few shards change.

Which samples are chosen does not depend on what was there; where they stand does. A place whose sample is gone is
a hole. Holes are filled by samples that are added, those of the hole's own stratum first, then of its modality,
then any; by samples of the tail where fewer remain than there were; what is added beyond comes behind the end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plan.choose import Epochs, Rows
from pipeline.plan.order import place
from schemas.plan import Stratum
from schemas.sample import Modality

Group = Callable[[Stratum], object]

HOLE = -1
"""In place of a row: no candidate, or one that is not chosen any more."""


@dataclass(frozen=True)
class Standing:
    """One split of a finished mixture, by position."""

    rows: Rows
    """[samples]: the candidate that stands there, or HOLE."""
    codes: NDArray[np.uint16]
    """[samples]: the place in `strata` of the stratum of who stands there, or stood."""
    strata: Sequence[Stratum]
    """Each once; as the quotas have them, where they do."""


NOTHING = Standing(np.empty(0, np.int32), np.empty(0, np.uint16), ())


@dataclass(frozen=True)
class Turnover:
    """What becomes of tars."""

    kept: int
    rewritten: int
    new: int
    gone: int


def amend(
    base: Standing, chosen: Mapping[Stratum, Rows], keys: Any, seed: int, epochs: Epochs | None = None
) -> Rows:
    """The chosen rows of one split, [samples], those that stood in `base` in their old places wherever that can be.

    Args:
        base: What was there.
        chosen: Rows of each stratum.
        keys: Arrow, [candidates] large_string: the column that the rows number.
        seed: As for `place`, which this is where nothing was there.
        epochs: Likewise.
    """
    order = _staying(base, chosen, len(keys))
    there = _marked(order[order != HOLE], len(keys))
    added = {stratum: rows[~there[rows]] for stratum, rows in chosen.items()}
    total = sum(len(rows) for rows in chosen.values())
    for group in (_stratum, _modality, _anything):
        added = _fill(order[:total], base, added, group, lambda rows: place(rows, keys, seed, epochs), len(keys))
    if total <= len(order):
        for group in (_stratum, _modality, _anything):
            _move(order, base, total, group)
        return order[:total]
    return np.concatenate([order, place(added, keys, seed, epochs)])


def worst_prefix(order: Rows, chosen: Mapping[Stratum, Rows]) -> Fraction:
    """The greatest distance, in samples, of any prefix of `order` from the share of any modality."""
    total, places, worst = len(order), np.arange(1, len(order) + 1, dtype=np.int64), 0
    for modality in {stratum.modality for stratum in chosen}:
        rows = np.concatenate([rows for stratum, rows in chosen.items() if stratum.modality is modality])
        seen = np.cumsum(np.isin(order, rows), dtype=np.int64)
        worst = max(worst, int(np.max(np.abs(seen * total - places * len(rows)), initial=0)))
    return Fraction(worst, total or 1)


def moved(before: Rows, after: Rows) -> int:
    """Rows of both orders that stand at another position."""
    _, old, new = np.intersect1d(before[before != HOLE], after, return_indices=True)
    positions = np.flatnonzero(before != HOLE)
    return int(np.count_nonzero(positions[old] != new))


def turnover(before: Rows, after: Rows, old_starts: Sequence[int], new_starts: Sequence[int]) -> Turnover:
    """What becomes of the shards of a split. A tar is kept where all its rows stand where they stood.

    `before` has holes, too, for those that may not be taken over as they are. Tars begin at the starts, and are
    numbered: that of a number is compared with the old one of that number.
    """
    old, new = ([*starts, len(rows)] for starts, rows in ((old_starts, before), (new_starts, after)))
    both = min(len(old_starts), len(new_starts))
    tars = [(slice(*old[number : number + 2]), slice(*new[number : number + 2])) for number in range(both)]
    kept = sum(was == now and np.array_equal(before[was], after[now]) for was, now in tars)
    return Turnover(kept, both - kept, max(0, len(new) - len(old)), max(0, len(old) - len(new)))


def _staying(base: Standing, chosen: Mapping[Stratum, Rows], candidates: int) -> Rows:
    """Rows by position; holes where one is not chosen, or is of another stratum now."""
    code_of = np.full(candidates, HOLE, np.int32)
    for code, stratum in enumerate(base.strata):
        code_of[chosen.get(stratum, NOTHING.rows)] = code
    stays = base.rows != HOLE
    stays[stays] = code_of[base.rows[stays]] == base.codes[stays]
    return np.where(stays, base.rows, np.int32(HOLE))


def _marked(rows: Rows, candidates: int) -> NDArray[np.bool_]:
    """[candidates]: whether one is among `rows`."""
    marks = np.zeros(candidates, np.bool_)
    marks[rows] = True
    return marks


def _fill(
    order: Rows,
    base: Standing,
    added: Mapping[Stratum, Rows],
    group: Group,
    placed: Callable[[Mapping[Stratum, Rows]], Rows],
    candidates: int,
) -> dict[Stratum, Rows]:
    """Fills holes, the first ones first, with what is added to the group that each hole is of. Returns the rest."""
    left = dict(added)
    for name in dict.fromkeys(group(stratum) for stratum, rows in added.items() if len(rows)):
        own = {stratum: rows for stratum, rows in added.items() if group(stratum) == name}
        holes = np.flatnonzero((order == HOLE) & _of(base, group, name)[: len(order)])
        coming = placed(own)[: len(holes)]
        order[holes[: len(coming)]] = coming
        came = _marked(coming, candidates)
        left |= {stratum: rows[~came[rows]] for stratum, rows in own.items()}
    return left


def _move(order: Rows, base: Standing, total: int, group: Group) -> None:
    """Moves samples from behind the new end into holes before it, each to one of its own group."""
    for name in dict.fromkeys(map(group, base.strata)):
        own = _of(base, group, name)
        holes = np.flatnonzero((order == HOLE) & own)
        holes = holes[holes < total]
        tail = np.flatnonzero((order != HOLE) & own)
        tail = tail[tail >= total][: len(holes)]
        order[holes[: len(tail)]] = order[tail]
        order[tail] = HOLE


def _of(base: Standing, group: Group, name: object) -> NDArray[np.bool_]:
    """[samples]: who stands, or stood, in that group."""
    is_of = np.array([group(stratum) == name for stratum in base.strata], np.bool_)
    return is_of[base.codes] if len(base.codes) else np.zeros(0, np.bool_)


def _stratum(stratum: Stratum) -> Stratum:
    return stratum


def _modality(stratum: Stratum) -> Modality:
    return stratum.modality


def _anything(_: Stratum) -> None:
    return None
