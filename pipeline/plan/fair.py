"""Whose turn it is at each place of an order, so that every prefix holds its shares.

Fair scheduling of unit jobs. The j-th sample (from 0) of a group with `quota` of `total` may come no
earlier than place floor(j * total / quota) and no later than place ceil((j + 1) * total / quota) - 1;
a count that keeps these windows lies strictly within one of `places * quota / total` after any number
of places. For groups of one stratum each the earliest deadline among those released always fits (Baruah
et al., "Proportionate progress", Algorithmica 1996).

Groups of several strata have two kinds of window, the group's and the stratum's. The earliest deadline of
either fits most mixes, not all: `(2, 122), (4, 4), (96, 3), (4,)` misses one by place 27. Such a mix does
have an order, as has every other that was tried, but that each has one is not proven. So the order is built
by deadlines, and where one is missed, by a search of the places around it.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Turns = NDArray[np.uint16]
"""[places]: the index of the stratum whose turn it is."""

BACK = (16, 64, 256, 1024)
"""Places that a search goes back, and on, until one succeeds."""

WIDTH = 256
"""Ways on that a search keeps at a place."""

State = tuple[int, ...]
"""Samples so far of each stratum."""


class StuckError(ValueError):
    """No order was found that keeps both the groups' windows and the strata's."""


def fair_turns(groups: Sequence[Sequence[int]]) -> Turns:
    """An order in which every prefix holds every group and every stratum strictly within one of its share.

    Args:
        groups: Quotas, at least 1, of the strata of each group. Strata are numbered through.

    Raises StuckError where none is found.
    """
    return _Turns(groups).found()


@dataclass
class _Turns:
    """The order as it grows. `counts` and `group_counts` are of the places so far."""

    groups: Sequence[Sequence[int]]
    counts: list[int] = field(init=False)
    group_counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.quotas = [quota for group in self.groups for quota in group]
        self.group_of = [index for index, group in enumerate(self.groups) for _ in group]
        self.group_quotas = [sum(group) for group in self.groups]
        self.total = sum(self.quotas)
        self.turns: Turns = np.zeros(self.total, np.uint16)
        self.counts = [0] * len(self.quotas)
        self.group_counts = [0] * len(self.groups)

    def found(self) -> Turns:
        place = 0
        while (missed := self._earliest_deadlines(place)) is not None:
            place = self._repaired(*missed)
        return self.turns

    def _release(self, done: int, quota: int) -> int:
        """Of the next sample; none is released after the last."""
        return done * self.total // quota if done < quota else self.total

    def _deadline(self, done: int, quota: int) -> int:
        """Of the next sample; a group that is done has none before the end."""
        return -(-(done + 1) * self.total // quota) - 1 if done < quota else self.total

    def _earliest_deadlines(self, start: int) -> tuple[int, int] | None:
        """Fills the places from `start` on. Stuck: the place reached, and the deadline that was missed.

        The one loop over millions of places: all that it calls is heapq.
        """
        total, quotas, group_of, turns = self.total, self.quotas, self.group_of, self.turns
        counts, group_counts, group_quotas = self.counts, self.group_counts, self.group_quotas
        ready: list[list[tuple[int, int]]] = [[] for _ in self.groups]  # (deadline, stratum)
        waiting: list[list[tuple[int, int]]] = [[] for _ in self.groups]  # (release, stratum)
        for stratum, quota in enumerate(quotas):
            heapq.heappush(waiting[group_of[stratum]], (self._release(counts[stratum], quota), stratum))
        opens = [self._release(done, quota) for done, quota in zip(group_counts, group_quotas, strict=True)]
        closes = [self._deadline(done, quota) for done, quota in zip(group_counts, group_quotas, strict=True)]
        for place in range(start, total):
            first = second = total
            chosen = -1
            for group, opening in enumerate(opens):
                if opening > place:
                    continue
                wait, heap = waiting[group], ready[group]
                while wait and wait[0][0] <= place:
                    stratum = heapq.heappop(wait)[1]
                    deadline = -(-(counts[stratum] + 1) * total // quotas[stratum]) - 1
                    heapq.heappush(heap, (deadline, stratum))
                if heap:
                    low, high = heap[0][0], closes[group]
                    if low > high:
                        low, high = high, low
                    if low < first or (low == first and high < second):
                        first, second, chosen = low, high, group
            if chosen < 0 or first < place:
                return place, min(first, place)
            stratum = heapq.heappop(ready[chosen])[1]
            turns[place] = stratum
            counts[stratum] = done = counts[stratum] + 1
            if done < quotas[stratum]:
                heapq.heappush(waiting[chosen], (done * total // quotas[stratum], stratum))
            group_counts[chosen] = done = group_counts[chosen] + 1
            opens[chosen] = done * total // group_quotas[chosen] if done < group_quotas[chosen] else total
            closes[chosen] = -(-(done + 1) * total // group_quotas[chosen]) - 1
        return None

    def _repaired(self, place: int, missed: int) -> int:
        """Searches from some places before `missed` to as many after. Returns where to go on."""
        for back in BACK:
            start, stop = max(0, missed - back), min(self.total, missed + back)
            for stratum in self.turns[start:place].tolist():
                self._count(stratum, -1)
            place = start
            if found := self._searched(start, stop):
                for stratum in found:
                    self._count(stratum, 1)
                self.turns[start:stop] = found
                return stop
        raise StuckError(f"no fair order of {self.groups} is found beyond place {missed}")

    def _count(self, stratum: int, step: int) -> None:
        self.counts[stratum] += step
        self.group_counts[self.group_of[stratum]] += step

    def _searched(self, start: int, stop: int) -> list[int]:
        """Strata of places start to stop that keep all windows: breadth first. Empty where none was found."""
        layers: list[dict[State, tuple[State, int]]] = [{tuple(self.counts): ((), -1)}]
        for place in range(start, stop):
            layers.append(dict(islice(self._kept(layers[-1], place), WIDTH)))
            if not layers[-1]:
                return []
        state, found = next(iter(layers[-1])), []
        for layer in reversed(layers[1:]):
            state, stratum = layer[state]
            found.append(stratum)
        return found[::-1]

    def _kept(self, states: Iterable[State], place: int) -> Iterator[tuple[State, tuple[State, int]]]:
        """The states after `place` that keep all windows, each with the one before it and whose turn it was."""
        for state in states:
            for stratum in self._allowed(state, place):
                after = (*state[:stratum], state[stratum] + 1, *state[stratum + 1 :])
                if not self._late(after, place):
                    yield after, (state, stratum)

    def _late(self, state: State, place: int) -> bool:
        """Whether a deadline of this place was missed."""
        strata = zip(state, self.quotas, strict=True)
        groups = zip(self._in_groups(state), self.group_quotas, strict=True)
        return any(self._deadline(*each) <= place for each in (*strata, *groups))

    def _allowed(self, state: State, place: int) -> list[int]:
        """Strata that are released, as is their group; the most urgent first."""
        in_groups, urgency = self._in_groups(state), []
        for stratum, (done, group, quota) in enumerate(zip(state, self.group_of, self.quotas, strict=True)):
            of_group = self.group_quotas[group]
            if max(self._release(done, quota), self._release(in_groups[group], of_group)) <= place:
                due = sorted((self._deadline(done, quota), self._deadline(in_groups[group], of_group)))
                urgency.append((due, stratum))
        return [stratum for _, stratum in sorted(urgency)]

    def _in_groups(self, state: State) -> list[int]:
        done = [0] * len(self.groups)
        for group, count in zip(self.group_of, state, strict=True):
            done[group] += count
        return done
