"""A split's samples, in order, become tars of a fixed number of samples; of shards and of columns alike.

A tar whose samples all stand in one finished tar of its name, each where it was, is that tar: it is linked.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic

from pipeline.shards.index import TarPlace
from pipeline.shards.kept import Kept, Row, stands
from pipeline.shards.members import Member
from pipeline.shards.sidecars import INDEX_END, write_tar_index
from pipeline.shards.tar import TarShard
from pipeline.storage.files import link, published
from pipeline.storage.places import Place
from schemas.base import Sha256
from schemas.sample import Split


@dataclass(frozen=True)
class Made(Generic[Row]):
    """One sample made anew."""

    key: str
    record: Row
    """What a tar holds of it."""
    made: Sequence[Member]

    def members(self) -> Sequence[Member]:
        """As of one that is kept."""
        return self.made


@dataclass(frozen=True)
class WrittenTar(Generic[Row]):
    """One finished tar and what lies in it."""

    name: str
    """Path in the mixture's folder."""
    sha256: Sha256
    size_bytes: int
    samples: tuple[tuple[Row, TarPlace], ...]


def write_tars(
    folder: Place,
    split: Split,
    rows: Iterable[Made[Row] | Kept[Row]],
    samples_per_shard: int,
    suffix: str = "",
) -> Iterator[WrittenTar[Row]]:
    """Packs `rows` into `shards/{split}-{000000}{suffix}.tar`; yields a tar once it and its `.idx` are durable."""
    queue = iter(rows)
    number = 0
    while first := next(queue, None):
        name = f"shards/{split}-{number:06d}{suffix}.tar"
        batch = chain([first], islice(queue, samples_per_shard - 1))
        leading = list[Kept[Row]]()
        made = next((row for row in batch if not _is_kept(row, leading)), None)
        if made is None and stands(leading, name):
            yield _link_tar(folder, leading)
        else:
            yield _write_tar(folder, name, chain(leading, [made] if made else [], batch))
        number += 1


def _is_kept(row: Made[Row] | Kept[Row], kept: list[Kept[Row]]) -> bool:
    """Whether it is; if so it joins `kept`."""
    if isinstance(row, Kept):
        kept.append(row)
        return True
    return False


def _link_tar(folder: Place, rows: Sequence[Kept[Row]]) -> WrittenTar[Row]:
    tar = rows[0].tar
    for end in ("", INDEX_END):
        link(tar.folder / f"{tar.name}{end}", folder / f"{tar.name}{end}")
    return WrittenTar(tar.name, tar.sha256, tar.size_bytes, tuple((row.record, row.place) for row in rows))


def _write_tar(folder: Place, name: str, rows: Iterable[Made[Row] | Kept[Row]]) -> WrittenTar[Row]:
    written: list[tuple[Row, TarPlace]] = []
    with published(folder / name) as attempt, TarShard(attempt) as tar:
        for row in rows:
            offset, members = tar.tell(), row.members()
            data_offsets = tuple(tar.add(f"{row.key}.{m.suffix}", m.payload) for m in members)
            suffixes, sizes = tuple(m.suffix for m in members), tuple(len(m.payload) for m in members)
            written.append((row.record, TarPlace(offset, suffixes, data_offsets, sizes)))
        exclusive_end = tar.tell()
    write_tar_index(folder / name, [place.offset for _, place in written], exclusive_end)
    return WrittenTar(name, tar.sha256, tar.size, tuple(written))
