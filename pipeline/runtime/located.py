"""Outcomes of millions of inputs, found by key and read when they are wanted.

A record in memory takes kilobytes; here a key takes its own bytes and 24 more.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.runtime.contract import Keyed
from pipeline.runtime.rows import read_outline, read_row, read_rows, read_types
from pipeline.runtime.workspace import Artefact
from pipeline.storage.places import Place

Kind = TypeVar("Kind", bound=Keyed)


class Reader(Protocol):
    """Reads one outcome from its file."""

    def __call__(self) -> Keyed:
        """All of it."""

    def outline(self) -> Keyed:
        """Of features without what their arrays hold: shapes and dtypes are right."""


@dataclass(frozen=True)
class PartRow:
    """A row of a part file, and the `Reader` of its outcome."""

    path: Place
    row: int

    def __call__(self) -> Keyed:
        """Reads it."""
        return read_row(self.path, self.row)

    def outline(self) -> Keyed:
        """Reads all but its arrays' values."""
        return read_outline(self.path, self.row)


class Located(Mapping[str, Reader]):
    """Where the outcome of each key lies. Of several under one key the one that was added last counts."""

    def __init__(self, artefacts: Iterable[Artefact] = (), only: type[Keyed] | None = None) -> None:
        self._only = only
        self._paths: list[Place] = []
        self._keys: list[Any] = []
        """Arrow, a column of keys a part."""
        self._places: list[NDArray[np.int32]] = []
        """[keys, 2] a part: number of its file, row there."""
        for artefact in artefacts:
            self.add(artefact)

    def add(self, artefact: Artefact) -> None:
        """Takes in the outcomes of a finished pass, or those of type `only`."""
        self.add_parts(artefact.folder / "parts" / part.name for part in artefact.manifest.parts)

    def add_parts(self, paths: Iterable[Place]) -> None:
        """Takes in the outcomes that lie in these part files."""
        for path in paths:
            rows = [
                (key, row)
                for row, (key, kind) in enumerate(read_types(path))
                if self._only is None or kind == self._only.__name__
            ]
            self._keys.append(pa.array([key for key, _ in rows], pa.large_string()))
            number = len(self._paths)
            self._places.append(np.array([(number, row) for _, row in rows], np.int32).reshape(-1, 2))
            self._paths.append(path)
        self.__dict__.pop("_index", None)

    @cached_property
    def _index(self) -> tuple[Any, NDArray[np.int32], NDArray[np.int64], NDArray[np.intp]]:
        """All keys, their places, and the hashes of the keys: sorted, and the order that sorts them."""
        keys = pa.concat_arrays(self._keys) if self._keys else pa.array([], pa.large_string())
        places = np.concatenate(self._places) if self._places else np.empty((0, 2), np.int32)
        # Python's own hash: good for this process alone, and nobody from outside can aim at it.
        parts = [np.fromiter(map(hash, part.to_pylist()), np.int64, len(part)) for part in self._keys]
        hashes = np.concatenate(parts) if parts else np.empty(0, np.int64)
        order = np.argsort(hashes, kind="stable")
        return keys, places, hashes[order], order

    def _find(self, key: object) -> int:
        """Place of the key among all, -1 for none."""
        keys, _, hashes, order = self._index
        wanted = hash(key)
        found = -1
        for at in range(int(np.searchsorted(hashes, wanted)), len(hashes)):
            if hashes[at] != wanted:
                break
            if keys[int(order[at])].as_py() == key:
                found = max(found, int(order[at]))
        return found

    def __getitem__(self, key: str) -> PartRow:
        if (at := self._find(key)) < 0:
            raise KeyError(key)
        number, row = self._index[1][at].tolist()
        return PartRow(self._paths[number], row)

    def __contains__(self, key: object) -> bool:
        return self._find(key) >= 0

    def __iter__(self) -> Iterator[str]:
        at = 0
        for part in self._keys:
            for key in part.to_pylist():
                if self._find(key) == at:
                    yield key
                at += 1

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def twice(self) -> str:
        """A key that stands there more than once; empty for none."""
        keys, _, hashes, order = self._index
        same = hashes[1:] == hashes[:-1]
        seen: set[str] = set()
        # Rows whose hash is another's too: of the same key, or by a rare chance of another.
        for row in order[np.append(same, False) | np.append(False, same)].tolist() if len(order) else ():
            if (key := str(keys[row].as_py())) in seen:
                return key
            seen.add(key)
        return ""


class Stored(Mapping[str, Kind], Generic[Kind]):
    """Records by key that lie in finished passes."""

    def __init__(self, kind: type[Kind]) -> None:
        self._kind = kind
        self._artefacts: list[Artefact] = []
        self._located = Located(only=kind)

    def add(self, artefact: Artefact) -> None:
        """Takes in those of a finished pass."""
        self._artefacts.append(artefact)
        self._located.add(artefact)

    def twice(self) -> str:
        """A key that stands there more than once; empty for none."""
        return self._located.twice()

    def __getitem__(self, key: str) -> Kind:
        return cast("Kind", self._located[key]())

    def __contains__(self, key: object) -> bool:
        return key in self._located

    def __iter__(self) -> Iterator[str]:
        return iter(self._located)

    def __len__(self) -> int:
        return len(self._located)

    def stream(self) -> Iterator[Kind]:
        """All of them, in the order in which they were added: faster than one by one."""
        for artefact in self._artefacts:
            for part in artefact.manifest.parts:
                yield from read_rows(artefact.folder / "parts" / part.name, self._kind)
