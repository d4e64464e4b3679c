"""`SampleIndex`: where each sample of a split lies, looked up in an index of any size.

Only the row groups in use are in memory, as Arrow holds them. No file stays open in between.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.shards.recent import Recent
from pipeline.storage.places import Place
from schemas.ledger import INDEX

PLACE = ("key", "shard", "members", "data_offsets", "sizes")
"""Columns of an index that say where a sample lies."""
_REPEATED = ("split", "shard", "modality", "category")
"""Columns of few values."""


class ShardError(LookupError):
    """The mixture is not what its index says. Of a tar, the message names shard and key."""


class IndexRow(NamedTuple):
    """One sample in its tar."""

    key: str
    shard: str
    """Path in the mixture's folder."""
    members: tuple[str, ...]
    """Suffixes, in the tar's order."""
    data_offsets: Sequence[int]
    """Of each member's data, bytes."""
    sizes: Sequence[int]
    """Likewise."""


class SampleIndex:
    """The rows of one split in an index, of shards or of a column. Picklable.

    With `groups`, at most so many row groups are held at a time, and it is for one thread; without, all that were
    ever asked for, and it is for any thread.
    """

    def __init__(self, folder: Place, split: str, name: str = INDEX, groups: int | None = None) -> None:
        """Raises ShardError where the index lists no sample of the split; OSError where there is no index."""
        self._path = folder / name
        self._groups: Recent[int, _Group] = Recent(groups)
        self._meta: pq.FileMetaData | None = None
        self._repeated: list[str] = []
        with self._open() as file:
            self._meta = file.metadata
        self._repeated = [field for field in _REPEATED if field in file.metadata.schema.names]
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        self._bounds: list[int] = [0, *accumulate(sizes)]
        self._first, self._count = 0, self._bounds[-1]
        (rows,) = np.nonzero(self.codes("split", [split]) == 0)
        if not len(rows):
            raise ShardError(f"{self._path} lists no sample of split {split!r}")
        if rows[-1] - rows[0] + 1 != len(rows):
            raise ShardError(f"{self._path} does not list the samples of split {split!r} in one stretch")
        self._first, self._count = int(rows[0]), len(rows)

    def __len__(self) -> int:
        return self._count

    def row(self, position: int) -> IndexRow:
        """Where the sample at `position` lies, 0 <= position < len."""
        at = self._first + position
        group = bisect_right(self._bounds, at) - 1
        return self._groups.get(group, self._load).row(at - self._bounds[group])

    def codes(self, column: str, names: Sequence[str]) -> NDArray[np.uint8]:
        """[samples] the place in `names` of each sample's value, 255 where it is not among them."""
        with self._open() as file:
            values = file.read(columns=[column])[column].slice(self._first, self._count)
        return np.concatenate([_codes_of(chunk, names) for chunk in values.chunks] or [np.empty(0, np.uint8)])

    def find(self, key: str) -> int:
        """The position of the sample of this key, -1 where there is none. Reads all keys."""
        with self._open() as file:
            keys = file.read(columns=["key"])["key"].slice(self._first, self._count)
        found: int = pc.index(keys, key).as_py()
        return found

    def _load(self, group: int) -> "_Group":
        with self._open() as file:
            return _Group(file.read_row_group(group, columns=list(PLACE)))

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        # Arrow reads a local file without the interpreter.
        opened = pa.OSFile(str(self._path)) if isinstance(self._path, Path) else self._path.open("rb")
        with opened as file:
            yield pq.ParquetFile(file, metadata=self._meta, read_dictionary=self._repeated)


class _Group:
    """The rows of one row group, as plain columns: a value that is asked for costs no Arrow scalar."""

    def __init__(self, table: pa.Table) -> None:
        columns = {name: table[name].combine_chunks() for name in PLACE}
        shards, members = _encoded(columns["shard"]), columns["members"]
        names = _encoded(members.values)
        self._keys, self._key_ends = (
            memoryview(columns["key"].buffers()[2]),
            _view(columns["key"].buffers()[1], "i"),
        )
        self._shards: list[str] = shards.dictionary.to_pylist()
        self._names: list[str] = names.dictionary.to_pylist()
        self._tuples: dict[bytes, tuple[str, ...]] = {}
        self._shard_codes, self._codes = _view(shards.indices.to_numpy(), "i"), _view(names.indices.to_numpy(), "i")
        self._starts = _view(members.offsets.to_numpy(), "i")
        self._offsets = _view(columns["data_offsets"].values.to_numpy(), "q")
        self._sizes = _view(columns["sizes"].values.to_numpy(), "q")

    def row(self, number: int) -> IndexRow:
        start, stop = self._starts[number], self._starts[number + 1]
        return IndexRow(
            str(self._keys[self._key_ends[number] : self._key_ends[number + 1]], "utf-8"),
            self._shards[self._shard_codes[number]],
            self._members(self._codes[start:stop]),
            self._offsets[start:stop].tolist(),
            self._sizes[start:stop].tolist(),
        )

    def _members(self, codes: "memoryview[int]") -> tuple[str, ...]:
        token = codes.tobytes()
        if token not in self._tuples:
            self._tuples[token] = tuple(self._names[code] for code in codes.tolist())
        return self._tuples[token]


def _view(values: Any, form: Literal["i", "q"]) -> "memoryview[int]":
    """`values` as plain numbers; one of them is read in a tenth of the time that NumPy takes."""
    return memoryview(values).cast("B").cast(form)


def _encoded(values: pa.Array) -> pa.DictionaryArray:
    return values if pa.types.is_dictionary(values.type) else values.dictionary_encode()


def _codes_of(values: pa.Array, names: Sequence[str]) -> NDArray[np.uint8]:
    encoded = _encoded(values)
    known = {name: code for code, name in enumerate(names)}
    lookup = np.array([known.get(value, 255) for value in encoded.dictionary.to_pylist()] or [255], np.uint8)
    return np.asarray(lookup[encoded.indices.to_numpy()])
