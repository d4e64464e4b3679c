"""Where each address lies: sorted arrays of 16 bytes an address, for millions of them."""

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

RECENT = 65_536
"""Addresses that are sorted apart from the rest, so that new ones cost little."""


class _Sorted(NamedTuple):
    prefixes: NDArray[np.uint64]
    """[n] ascending."""
    places: NDArray[np.uint64]
    """[n] segment << 32 | row."""

    @classmethod
    def of(cls, chunks: "list[_Sorted]") -> Self:
        """All of them, which are emptied: at millions of addresses two copies are too many."""
        prefixes = np.concatenate([chunk.prefixes for chunk in chunks])
        places = np.concatenate([chunk.places for chunk in chunks])
        chunks.clear()
        order = np.argsort(prefixes, kind="stable")
        prefixes = prefixes[order]
        return cls(prefixes, places[order])


class AddressIndex:
    """Finds rows by the first 8 bytes of their address; whoever reads a row compares the rest."""

    def __init__(self) -> None:
        self._levels = [_empty(), _empty()]
        """The many, and the recent."""
        self._new: list[_Sorted] = []

    def __len__(self) -> int:
        return sum(len(level.places) for level in [*self._levels, *self._new])

    def add(self, addresses: NDArray[np.uint8], segment: int) -> None:
        """The rows of a segment, in order: `addresses` is [rows, 32] uint8."""
        rows = np.arange(len(addresses), dtype=np.uint64)
        self._new.append(_Sorted(prefixes_of(addresses), rows | np.uint64(segment << 32)))

    def drop(self, segments: Iterable[int]) -> None:
        """All rows of these segments."""
        gone = np.array(sorted(segments), np.uint64)
        self._levels = [_without(level, gone) for level in self._levels]
        self._new = [_without(level, gone) for level in self._new]

    def find(self, addresses: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Rows that may be those of `addresses` ([n, 32] uint8).

        Returns:
            Positions in `addresses`, and a place (segment << 32 | row) for each; none for an address that is not
            there, several where it was written more than once.
        """
        self._sort()
        wanted = prefixes_of(addresses)
        found = [_in_level(level, wanted) for level in self._levels]
        return np.concatenate([which for which, _ in found]), np.concatenate([places for _, places in found])

    def _sort(self) -> None:
        if not self._new:
            return
        many, recent = self._levels
        if len(recent.places) + sum(len(chunk.places) for chunk in self._new) <= RECENT:
            self._levels = [many, _Sorted.of([recent, *self._new])]
        else:
            chunks = [many, recent, *self._new]
            self._levels, self._new = [], []
            del many, recent
            self._levels = [_Sorted.of(chunks), _empty()]
        self._new = []


def prefixes_of(addresses: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """[n] the first 8 bytes of each of [n, 32] uint8."""
    first = np.ascontiguousarray(addresses[:, :8])
    return first.view(">u8").reshape(-1).astype(np.uint64)


def _empty() -> _Sorted:
    return _Sorted(np.empty(0, np.uint64), np.empty(0, np.uint64))


def _without(level: _Sorted, segments: NDArray[np.uint64]) -> _Sorted:
    kept = ~np.isin(level.places >> np.uint64(32), segments)
    return level if kept.all() else _Sorted(level.prefixes[kept], level.places[kept])


def _in_level(level: _Sorted, wanted: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    first = np.searchsorted(level.prefixes, wanted, "left")
    count = np.searchsorted(level.prefixes, wanted, "right") - first
    which = np.repeat(np.arange(len(wanted)), count)
    within = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    return which, level.places[np.repeat(first, count) + within]
