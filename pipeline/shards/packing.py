"""A split's samples, in order, become tars; of shards and of columns alike.

What each tar holds, and where, follows from the sizes of its samples' members, so it is known before any is
written: one thread cuts and keeps the books, and writers, as many at once as are wanted, fill the tars.
A tar whose samples all stand in one finished tar of its name, each where it was, is that tar: it is linked.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from pipeline.runtime.cuts import Bound, Thing, runs
from pipeline.shards.index import TarPlace
from pipeline.shards.kept import Kept, Row, stands
from pipeline.shards.members import Member
from pipeline.shards.sidecars import INDEX_END, write_tar_index
from pipeline.shards.tar import BLOCK, TarShard, room, stored_bytes, tar_bytes
from pipeline.storage.files import link, published
from pipeline.storage.places import Place
from schemas.base import Sha256
from schemas.recipe import ShardsSpec
from schemas.sample import Split

Told = TypeVar("Told")
Write = Callable[[AbstractContextManager[object]], Sha256]
"""Writes one tar, filling it in its turn."""
Sizes = Sequence[tuple[str, int]]
"""Suffix and bytes of each member of a sample, in order."""


@dataclass(frozen=True)
class Made(Generic[Row]):
    """One sample made anew."""

    key: str
    record: Row
    """What a tar holds of it."""
    sizes: Sizes
    members: Callable[[], Sequence[Member]]
    """Reads them, or has them: those of `sizes`."""


@dataclass(frozen=True)
class Cuts:
    """Where the tars of a split begin: at `starts`, and behind the last of them wherever the next is full."""

    bound: Bound
    starts: Sequence[int] = ()
    """Positions; of the first samples of tars that were there before."""

    @classmethod
    def full(cls, spec: ShardsSpec, starts: Sequence[int] = ()) -> "Cuts":
        """A tar is full with `samples_per_shard`, or before the sample that would carry it over `max_bytes`."""
        return cls(Bound(spec.samples_per_shard, room(spec.max_bytes)), starts)

    @classmethod
    def at(cls, starts: Sequence[int]) -> "Cuts":
        """At `starts` alone: as others are cut."""
        return cls(Bound(2**63, 2**63), starts)

    def runs(self, things: Iterable[Thing], size_of: Callable[[Thing], int]) -> Iterator[list[Thing]]:
        """The samples of each tar; `size_of` tells what one takes (`sample_bytes`), where it matters."""
        return runs(things, size_of, self.bound, frozenset(self.starts), max(self.starts, default=0))


def starts_of(things: Iterable[Thing], size_of: Callable[[Thing], int], cuts: Cuts) -> list[int]:
    """Positions at which tars begin."""
    ends = list(accumulate(len(run) for run in cuts.runs(things, size_of)))
    return [0, *ends[:-1]] if ends else []


def sample_bytes(sizes: Sizes) -> int:
    """What a sample takes in a tar."""
    return sum(stored_bytes(size) for _, size in sizes)


@dataclass(frozen=True)
class WrittenTar(Generic[Row]):
    """One finished tar and what lies in it."""

    name: str
    """Place in the mixture's folder."""
    sha256: Sha256
    size_bytes: int
    samples: tuple[tuple[Row, TarPlace], ...]


@dataclass(frozen=True)
class TarJob:
    """One tar to write. Picklable, and small as long as the samples' arrays lie in files."""

    folder: Place
    name: str
    places: Sequence[tuple[str, TarPlace]]
    """Key and place of each sample."""
    members: Sequence[Callable[[], Sequence[Member]]]
    """Of each sample."""
    exclusive_end: int
    """Of the last sample."""

    def __call__(self, turn: AbstractContextManager[object]) -> Sha256:
        """Writes the tar and its `.idx`, durably, one sample in memory at a time.

        It fills the tar in its `turn`; then others may fill theirs, while the disk takes this one.
        """
        with published(self.folder / self.name) as attempt, turn, TarShard(attempt) as tar:
            for (key, place), read in zip(self.places, self.members, strict=True):
                members = read()
                found = [(m.suffix, m.size) for m in members]
                if found != list(zip(place.members, place.sizes, strict=True)):
                    raise RuntimeError(f"{key} has members {found} now, its tar was cut for {place}")
                tar.add_all([(f"{key}.{m.suffix}", m.pieces) for m in members])
        offsets = [place.offset for _, place in self.places]
        write_tar_index(self.folder / self.name, offsets, self.exclusive_end)
        return tar.sha256


def write_tars(
    folder: Place,
    split: Split,
    rows: Iterable[Made[Row] | Kept[Row]],
    cuts: Cuts,
    writers: int,
    suffix: str = "",
) -> Iterator[WrittenTar[Row]]:
    """Packs `rows` into `shards/{split}-{000000}{suffix}.tar`; yields each once it and its `.idx` are durable.

    `writers` are at work at once: threads, since hashing and writing free the interpreter.
    """

    def begun() -> Iterator[tuple[WrittenTar[Row], Write]]:
        for number, run in enumerate(cuts.runs(rows, lambda row: sample_bytes(row.sizes))):
            name = f"shards/{split}-{number:06d}{suffix}.tar"
            kept = [row for row in run if isinstance(row, Kept)]
            yield (
                _linked(folder, kept) if len(kept) == len(run) and stands(kept, name) else _laid(folder, name, run)
            )

    for tar, sha256 in _written(begun(), writers):
        yield WrittenTar(tar.name, sha256, tar.size_bytes, tar.samples)


def _linked(folder: Place, rows: Sequence[Kept[Row]]) -> tuple[WrittenTar[Row], Write]:
    tar = rows[0].tar

    def write(_: AbstractContextManager[object]) -> Sha256:
        for end in ("", INDEX_END):
            link(tar.folder / f"{tar.name}{end}", folder / f"{tar.name}{end}")
        return tar.sha256

    samples = tuple((row.record, row.place) for row in rows)
    return WrittenTar(tar.name, tar.sha256, tar.size_bytes, samples), write


def _laid(folder: Place, name: str, rows: Sequence[Made[Row] | Kept[Row]]) -> tuple[WrittenTar[Row], Write]:
    """Where each sample will lie, and the work of writing them."""
    offset, places = 0, []
    for row in rows:
        at, data_offsets = offset, []
        for _, size in row.sizes:
            data_offsets.append(offset + BLOCK)
            offset += stored_bytes(size)
        suffixes, sizes = zip(*row.sizes, strict=True)
        places.append(TarPlace(at, suffixes, tuple(data_offsets), sizes))
    keyed = [(row.key, place) for row, place in zip(rows, places, strict=True)]
    job = TarJob(folder, name, keyed, [row.members for row in rows], offset)
    samples = tuple((row.record, place) for row, place in zip(rows, places, strict=True))
    return WrittenTar(name, "", tar_bytes(offset), samples), job


def _written(jobs: Iterable[tuple[Told, Write]], writers: int) -> Iterator[tuple[Told, Sha256]]:
    """What is told of each job, with its result, in order; one that raises ends all.

    `writers` fill tars while as many wait for the disk to have theirs. Jobs are taken as they can be begun, and one
    more. However it ends, none is left at work. One writer is the caller's own thread, which waits for the disk.
    """
    if writers == 1:
        yield from ((told, write(nullcontext())) for told, write in jobs)
        return
    turn = threading.BoundedSemaphore(writers)
    with ThreadPoolExecutor(2 * writers, "writer") as pool:
        begun: deque[tuple[Told, Future[Sha256]]] = deque()
        try:
            for told, write in jobs:
                begun.append((told, pool.submit(write, turn)))
                yield from _done(begun, 2 * writers)
            yield from _done(begun, 0)
        finally:
            pool.shutdown(cancel_futures=True)


def _done(begun: "deque[tuple[Told, Future[Sha256]]]", at_most: int) -> Iterator[tuple[Told, Sha256]]:
    """Those at the head that are done, and more until only `at_most` are left."""
    while begun and (len(begun) > at_most or begun[0][1].done()):
        told, future = begun.popleft()
        yield told, future.result()
