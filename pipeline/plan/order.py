"""The order of a split: a row of a column at each position, to be read anywhere, without a state.

Every prefix holds every modality strictly within one sample of its exact share, and every stratum
too (`pipeline.plan.fair`). A shard or a batch is the difference of two prefixes: strictly within two.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from pipeline.plan.choose import Epochs, Rows, best_first
from pipeline.plan.fair import StuckError, Turns, fair_turns
from schemas.plan import Stratum
from schemas.sample import Modality

Group = TypeVar("Group")


def interleave(quotas: Mapping[Group, int]) -> Iterator[Group]:
    """Yields each group `quotas[group]` times, spread so that every prefix is within one of its share."""
    groups = [group for group, quota in quotas.items() if quota > 0]
    return (groups[turn] for turn in fair_turns([[quotas[group]] for group in groups]).tolist())


def place(chosen: Mapping[Stratum, Rows], keys: Any, seed: int, epochs: Epochs | None = None) -> Rows:
    """The chosen rows of one split in their order: [samples], by position.

    Args:
        chosen: Rows of each stratum.
        keys: Arrow, [candidates] large_string: the column that the rows number.
        seed: Within a stratum the order is a hash of this and the key.
        epochs: [candidates], which pass over its source each is of: a later pass comes behind the earlier ones.
    """
    groups: dict[Modality, list[Stratum]] = {}
    for stratum, rows in chosen.items():
        if len(rows):
            groups.setdefault(stratum.modality, []).append(stratum)
    strata = [stratum for group in groups.values() for stratum in group]
    turns = _turns([[len(chosen[stratum]) for stratum in group] for group in groups.values()])
    placed = np.empty(len(turns), np.int32)
    for code, stratum in enumerate(strata):
        rows = chosen[stratum]
        of_rows = None if epochs is None else epochs[rows]
        placed[turns == code] = rows[best_first(keys.take(pa.array(rows)), seed, "order", of_rows)]
    return placed


def _turns(groups: Sequence[Sequence[int]]) -> Turns:
    """Fair to groups and strata; should none such be found, groups first and then the strata of each.

    Two roundings, one a level: then every prefix holds a stratum strictly within two.
    """
    try:
        return fair_turns(groups)
    except StuckError:
        turns = fair_turns([[sum(group)] for group in groups])
    nested, first = np.empty_like(turns), 0
    for code, group in enumerate(groups):
        nested[turns == code] = first + fair_turns([[quota] for quota in group])
        first += len(group)
    return nested
