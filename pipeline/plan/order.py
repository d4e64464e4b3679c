"""The order of a split: every prefix holds every modality within one sample of its exact share.

This is fair scheduling of unit jobs. The j-th sample (from 0) of a group with `quota` of `total`
may come no earlier than place floor(j * total / quota) and no later than place
ceil((j + 1) * total / quota) - 1. As the shares sum to one, the earliest deadline among those
released always fits (Baruah et al., "Proportionate progress", Algorithmica 1996), and a count that
keeps these windows lies strictly within one of `places * quota / total` after any number of places.
"""

import heapq
from collections.abc import Iterator, Mapping
from typing import TypeVar

from pipeline.plan.choose import rank_hash
from schemas.plan import Placed, Stratum
from schemas.sample import Modality

Group = TypeVar("Group")


def interleave(quotas: Mapping[Group, int]) -> Iterator[Group]:
    """Yields each group `quotas[group]` times, spread so that every prefix is within one of its share."""
    total = sum(quotas.values())
    groups = [group for group, quota in quotas.items() if quota > 0]
    released: list[tuple[int, int, int]] = []  # (deadline, group index, j)
    waiting = [(0, index, 0) for index in range(len(groups))]  # (release, group index, j)
    heapq.heapify(waiting)
    for place in range(total):
        while waiting and waiting[0][0] <= place:
            _, index, j = heapq.heappop(waiting)
            deadline = -(-(j + 1) * total // quotas[groups[index]]) - 1
            heapq.heappush(released, (deadline, index, j))
        _, index, j = heapq.heappop(released)
        yield groups[index]
        quota = quotas[groups[index]]
        if j + 1 < quota:
            heapq.heappush(waiting, ((j + 1) * total // quota, index, j + 1))


def place(chosen: Mapping[Stratum, list[str]], seed: int) -> list[Placed]:
    """The chosen samples of one split in their order.

    Modalities are interleaved first, then the sources within each modality's places, so that a
    modality's share is as exact however many sources feed it: every prefix holds a modality within
    one sample of its share, and a source, after two roundings, within two. Within a stratum the
    order is a hash.
    """
    by_modality: dict[Modality, dict[Stratum, int]] = {}
    queues: dict[Stratum, Iterator[str]] = {}
    for stratum, keys in chosen.items():
        by_modality.setdefault(stratum.modality, {})[stratum] = len(keys)
        queues[stratum] = iter(sorted(keys, key=lambda key: rank_hash(seed, key, "order")))
    turns = {modality: interleave(strata) for modality, strata in by_modality.items()}
    modalities = interleave({modality: sum(strata.values()) for modality, strata in by_modality.items()})
    placed: list[Placed] = []
    for position, modality in enumerate(modalities):
        stratum = next(turns[modality])
        placed.append(Placed(position=position, key=next(queues[stratum]), stratum=stratum))
    return placed
