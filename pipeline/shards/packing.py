"""A split's samples, in order, become tars of a fixed number of samples; of shards and of columns alike."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pipeline.runtime.files import published
from pipeline.shards.index import Place
from pipeline.shards.members import Member
from pipeline.shards.sidecars import write_tar_index
from pipeline.shards.tar import TarShard
from schemas.base import Sha256
from schemas.sample import Split


class Keyed(Protocol):
    """What a tar holds of a sample, as a record."""

    @property
    def key(self) -> str:
        """The sample's key."""


Row = TypeVar("Row", bound=Keyed)


@dataclass(frozen=True)
class WrittenTar(Generic[Row]):
    """One finished tar and what lies in it."""

    name: str
    """Path in the mixture's folder."""
    sha256: Sha256
    size_bytes: int
    samples: tuple[tuple[Row, Place], ...]


def write_tars(
    folder: Path,
    split: Split,
    rows: Iterable[tuple[Row, Sequence[Member]]],
    samples_per_shard: int,
    suffix: str = "",
) -> Iterator[WrittenTar[Row]]:
    """Packs `rows` into `shards/{split}-{000000}{suffix}.tar`; yields a tar once it and its `.idx` are durable."""
    queue = iter(rows)
    number = 0
    while first := next(queue, None):
        batch = chain([first], islice(queue, samples_per_shard - 1))
        yield _write_tar(folder, f"shards/{split}-{number:06d}{suffix}.tar", batch)
        number += 1


def _write_tar(folder: Path, name: str, rows: Iterable[tuple[Row, Sequence[Member]]]) -> WrittenTar[Row]:
    written: list[tuple[Row, Place]] = []
    with published(folder / name) as attempt, TarShard(attempt) as tar:
        for row, members in rows:
            offset = tar.tell()
            data_offsets = tuple(tar.add(f"{row.key}.{m.suffix}", m.payload) for m in members)
            suffixes, sizes = tuple(m.suffix for m in members), tuple(len(m.payload) for m in members)
            written.append((row, Place(offset, suffixes, data_offsets, sizes)))
        exclusive_end = tar.tell()
    write_tar_index(folder / name, [place.offset for _, place in written], exclusive_end)
    return WrittenTar(name, tar.sha256, tar.size, tuple(written))
