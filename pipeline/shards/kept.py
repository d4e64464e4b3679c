"""Samples that finished tars hold already: taken over as they are, member for member, or with their whole tar."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import pyarrow.parquet as pq

from pipeline.shards.index import TarPlace
from pipeline.shards.lookup import PLACE, IndexRow
from pipeline.shards.members import Member
from pipeline.shards.payloads import open_tar, payloads, spans
from pipeline.storage.places import Place
from schemas.base import Record, Sha256

Row = TypeVar("Row", bound=Record)


class TarEntry(Protocol):
    """A tar as a ledger tells it."""

    @property
    def name(self) -> str:
        """Path in the mixture's folder."""

    @property
    def sha256(self) -> Sha256:
        """Of the file."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""


@dataclass(frozen=True)
class OldTar:
    """A finished tar."""

    folder: Place
    """Of its mixture."""
    name: str
    """Path there."""
    sha256: Sha256
    """As its ledger tells; a tar is not read whole in order to be kept, the audit does that."""
    size_bytes: int
    samples: int

    @property
    def path(self) -> Place:
        """The file."""
        return self.folder / self.name


@dataclass(frozen=True)
class Kept(Generic[Row]):
    """One sample in a finished tar."""

    key: str
    tar: OldTar
    number: int
    """In the tar, from 0."""
    place: TarPlace
    clips: int
    parse: Callable[[bytes], Row]

    @cached_property
    def record(self) -> Row:
        """Its JSON member, read once. Raises ShardError where the tar is not what its index says."""
        (json,) = self._payloads(self.place.members[:1])
        return self.parse(json)

    def __getstate__(self) -> dict[str, Any]:
        """Without its record: who copies it does not need it."""
        return {name: value for name, value in self.__dict__.items() if name != "record"}

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Suffix and bytes of each member."""
        return list(zip(self.place.members, self.place.sizes, strict=True))

    def members(self) -> list[Member]:
        """All its members as they are, json first. Raises ShardError."""
        suffixes = self.place.members
        return [Member(*each) for each in zip(suffixes, self._payloads(suffixes), strict=True)]

    def _payloads(self, suffixes: Sequence[str]) -> list[bytes]:
        row = IndexRow(self.key, self.tar.name, self.place.members, self.place.data_offsets, self.place.sizes)
        found = payloads(open_tar(self.tar.folder, row), row, spans(row, suffixes))
        return [bytes(found[suffix]) for suffix in suffixes]


class OldTars(Generic[Row]):
    """All samples of the finished tars that an index lists, of shards or of a column, by key."""

    def __init__(
        self,
        folder: Place,
        index: str,
        tars: Iterable[TarEntry],
        parse: Callable[[bytes], Row],
        clips: Mapping[str, int] | None = None,
    ) -> None:
        """Reads the index.

        Args:
            folder: Of the mixture.
            index: Name of the index there.
            tars: As the ledger tells them.
            parse: From a sample's JSON member to its record.
            clips: Of each sample, where the index does not tell.
        """
        names = [*PLACE, "offset", *([] if clips is not None else ["clips"])]
        self._rows = pq.ParquetFile((folder / index).open("rb")).read(columns=names).combine_chunks()
        shards: list[str] = self._rows["shard"].to_pylist()
        keys: list[str] = self._rows["key"].to_pylist()
        self.at = {key: at for at, key in enumerate(keys)}
        """The place of each key in the index."""
        self.clips = clips if clips is not None else dict(zip(keys, self._rows["clips"].to_pylist(), strict=True))
        counts = Counter(shards)
        self._tars = {t.name: OldTar(folder, t.name, t.sha256, t.size_bytes, counts[t.name]) for t in tars}
        self._first: dict[str, int] = {}
        for at, shard in enumerate(shards):
            self._first.setdefault(shard, at)
        self._parse = parse

    def row(self, key: str) -> Kept[Row]:
        """The sample of this key. Raises KeyError where there is none."""
        at = self.at[key]
        found: dict[str, Any] = self._rows.slice(at, 1).to_pylist()[0]
        lists: Sequence[tuple[Any, ...]] = [tuple(found[name]) for name in ("members", "data_offsets", "sizes")]
        tar = self._tars[found["shard"]]
        place = TarPlace(found["offset"], *lists)
        return Kept(key, tar, at - self._first[tar.name], place, self.clips[key], self._parse)


def stands(rows: Sequence[Kept[Row]], name: str) -> bool:
    """Whether these are the samples of the finished tar of this name, all of them, each where it was."""
    return rows[0].tar.samples == len(rows) and all(
        row.tar == rows[0].tar and row.tar.name == name and row.number == number for number, row in enumerate(rows)
    )
