"""Samples in their final order become tars, an index, a ledger, a card and sidecars.

Equal samples give equal bytes in every file: no clock, no path of this machine, no order but the
one handed in. Memory holds the arrays of one sample, and the records of one shard.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from pipeline.runtime.files import published, write_text
from pipeline.shards.card import write_card
from pipeline.shards.index import INDEX, IndexWriter, Place
from pipeline.shards.members import Packed, members, shard_sample
from pipeline.shards.sidecars import write_energon, write_tar_index, write_wids
from pipeline.shards.tally import Tally, counted
from pipeline.shards.tar import TarShard
from schemas.arrays import EncoderProvenance
from schemas.base import Sha256, digest
from schemas.ledger import LEDGER, Account, Count, Ledger, ShardEntry, ShardSample
from schemas.recipe import ShardsSpec
from schemas.sample import Split


@dataclass(frozen=True)
class WrittenShard:
    """One finished tar and what lies in it."""

    name: str
    """Path in the mixture's folder."""
    sha256: Sha256
    size_bytes: int
    samples: tuple[tuple[ShardSample, Place], ...]
    exclusive_end: int
    """Where the last member ends, before the tar's trailing zero blocks; bytes."""


def write_mixture(
    folder: Path,
    splits: Mapping[Split, Iterable[Packed]],
    encoders: Sequence[str],
    spec: ShardsSpec,
    account: Account,
) -> Ledger:
    """Writes the whole artefact into `folder`; `ledger.json` comes last.

    `splits` holds each split's samples in their final order and is read once, lazily. `encoders`
    names the feature columns in the recipe's order. Raises ValueError when there is no sample, or a
    sample's features do not come from these encoders.
    """
    tally, entries, provenance = Tally(), [], _Provenance(encoders)
    with ExitStack() as stack:
        index = stack.enter_context(IndexWriter(stack.enter_context(published(folder / INDEX))))
        for split in Split:
            position = 0
            samples = provenance.checked(splits.get(split, ()))
            for shard in write_shards(folder, split, samples, encoders, spec):
                lines = [counted(sample, sum(place.sizes)) for sample, place in shard.samples]
                for (sample, place), line in zip(shard.samples, lines, strict=True):
                    index.add(position, shard.name, sample, place)
                    tally.add(sample, line)
                    position += 1
                write_tar_index(folder / shard.name, [p.offset for _, p in shard.samples], shard.exclusive_end)
                entries.append(_entry(shard, split, lines))
    ledger = _ledger(account, spec, tally, entries, provenance.found())
    write_wids(folder, ledger)
    write_energon(folder, ledger)
    write_card(folder, ledger)
    write_text(folder / LEDGER, ledger.model_dump_json(indent=1) + "\n")
    return ledger


def write_shards(
    folder: Path, split: Split, samples: Iterable[Packed], encoders: Sequence[str], spec: ShardsSpec
) -> Iterator[WrittenShard]:
    """Packs `samples`, in order, into `shards/{split}-{000000}.tar`, yielding each tar once it is durable."""
    queue = iter(samples)
    number = 0
    while first := next(queue, None):
        batch = chain([first], islice(queue, spec.samples_per_shard - 1))
        yield _write_shard(folder, f"shards/{split}-{number:06d}.tar", split, batch, encoders, spec)
        number += 1


def _write_shard(
    folder: Path, name: str, split: Split, samples: Iterable[Packed], encoders: Sequence[str], spec: ShardsSpec
) -> WrittenShard:
    written: list[tuple[ShardSample, Place]] = []
    with published(folder / name) as attempt, TarShard(attempt) as tar:
        for packed in samples:
            record = shard_sample(packed)
            if record.split is not split:
                raise ValueError(f"{record.key} is of split {record.split}, but was handed in for {split}")
            offset = tar.tell()
            found = members(record, packed.features, encoders, spec.frames_for)
            data_offsets = tuple(tar.add(f"{record.key}.{m.suffix}", m.payload) for m in found)
            suffixes, sizes = tuple(m.suffix for m in found), tuple(len(m.payload) for m in found)
            written.append((record, Place(offset, suffixes, data_offsets, sizes)))
        exclusive_end = tar.tell()
    return WrittenShard(name, tar.sha256, tar.size, tuple(written), exclusive_end)


class _Provenance:
    """Holds all samples of a mixture to one list of encoders: features of two must never be mixed."""

    def __init__(self, encoders: Sequence[str]) -> None:
        self._names = list(encoders)
        self._first: tuple[EncoderProvenance, ...] | None = None

    def checked(self, samples: Iterable[Packed]) -> Iterator[Packed]:
        for packed in samples:
            meta = packed.features.meta
            self._first = self._first or meta.encoders
            if meta.encoders != self._first or [e.name for e in meta.encoders] != self._names:
                raise ValueError(
                    f"features of {meta.key} come from {meta.encoders}, this mixture's from {self._first} "
                    f"in the order {self._names}: encode all samples with the same weights and preprocessing"
                )
            yield packed

    def found(self) -> tuple[EncoderProvenance, ...]:
        if self._first is None:
            raise ValueError("a mixture of no samples cannot be written: check the plan's quotas")
        return self._first


def _entry(shard: WrittenShard, split: Split, lines: Sequence[Mapping[str, int]]) -> ShardEntry:
    count = Count(**{field: sum(line[field] for line in lines) for field in Count.model_fields})
    return ShardEntry(name=shard.name, split=split, sha256=shard.sha256, size_bytes=shard.size_bytes, count=count)


def _ledger(
    account: Account,
    spec: ShardsSpec,
    tally: Tally,
    entries: Sequence[ShardEntry],
    encoders: tuple[EncoderProvenance, ...],
) -> Ledger:
    asked = tuple(row.model_copy(update={"found": tally.found(row.stratum)}) for row in account.asked)
    # Copied as records, not dumped and read back: a record already checked itself at birth.
    kept = {name: getattr(account, name) for name in Account.model_fields if name != "asked"}
    return Ledger(
        **kept,
        asked=asked,
        frames_for=spec.frames_for,
        **tally.tables(),
        origins=tally.origins(),
        encoders=encoders,
        storage_loss=tally.storage_loss(),
        shards=tuple(entries),
        root_sha256=digest([entry.sha256 for entry in entries]),
    )
