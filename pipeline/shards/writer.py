"""Samples in their final order become tars, an index, a ledger, a card and sidecars.

Equal samples give equal bytes in every file: no clock, no path of this machine, no order but the
one handed in. Memory holds the arrays of one sample a writer where samples come in outline, and the records of the
shards in work.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256

from pipeline.shards.card import write_card
from pipeline.shards.index import IndexWriter, traits
from pipeline.shards.kept import Kept
from pipeline.shards.members import Packed, Whole, members, shard_sample
from pipeline.shards.packing import Cuts, Made, Sizes, WrittenTar, write_tars
from pipeline.shards.sidecars import write_energon, write_wids
from pipeline.shards.tally import Tally, counted
from pipeline.storage.files import copy, published, write_text
from pipeline.storage.places import Place
from schemas.arrays import EncoderProvenance
from schemas.base import InputError, digest
from schemas.ledger import INDEX, LEDGER, TOKENIZER, Account, Asked, Count, Ledger, ShardEntry, ShardSample
from schemas.recipe import ShardsSpec
from schemas.sample import Split


def write_mixture(
    folder: Place,
    splits: Mapping[Split, Iterable[Packed | Kept[ShardSample]]],
    encoders: Sequence[str],
    spec: ShardsSpec,
    account: Account,
    tokenizer: Place | None = None,
    starts: Mapping[Split, Sequence[int]] | None = None,
    writers: int = 1,
) -> Ledger:
    """Writes the whole artefact into `folder`; `ledger.json` comes last.

    `splits` holds each split's samples in their final order, made anew or kept as a finished tar has them, and is
    read once, lazily. `encoders` names those whose features go into the samples' tars, in the recipe's order.
    `tokenizer` is the file that the account names by its digest. Tars begin at `starts` of their split; behind the
    last of these, and where none are named, `spec` says when one is full. `writers` tars are written at once, which
    changes no byte. Raises ValueError when there is no sample, or a
    sample's features do not come from these encoders, or the tokenizer is another; InputError when those that are
    kept and those made anew do not come from the same.
    """
    tally, entries, known = Tally(), [], _Encoders(encoders)
    with ExitStack() as stack:
        index = stack.enter_context(IndexWriter(stack.enter_context(published(folder / INDEX))))
        for split in Split:
            position = 0
            rows = _rows(splits.get(split, ()), split, known, spec)
            cuts = Cuts.full(spec, (starts or {}).get(split, ()))
            for shard in write_tars(folder, split, rows, cuts, writers):
                lines = [
                    counted(sample, sum(place.sizes), account.tokens_per_frame) for sample, place in shard.samples
                ]
                for (sample, place), line in zip(shard.samples, lines, strict=True):
                    index.add(split, position, sample.key, shard.name, place, traits(sample))
                    tally.add(sample, line, dict(zip(place.members, place.sizes, strict=True)))
                    position += 1
                entries.append(_entry(shard, split, lines))
    ledger = _ledger(account, spec, tally, entries, known.found())
    _keep_tokenizer(folder, tokenizer, account)
    write_wids(folder, ledger)
    write_energon(folder, ledger)
    write_ledger(folder, ledger)
    return ledger


def _keep_tokenizer(folder: Place, tokenizer: Place | None, account: Account) -> None:
    """So that whoever has the mixture can count its tokens again."""
    if tokenizer is not None:
        copy(tokenizer, folder / TOKENIZER)
    found = sha256((folder / TOKENIZER).read_bytes()).hexdigest() if tokenizer else ""
    if found != account.tokenizer_sha256:
        raise ValueError(f"{tokenizer} has sha256 {found!r}, tokens were counted by {account.tokenizer_sha256!r}")


def write_ledger(folder: Place, ledger: Ledger) -> None:
    """The card, which tells what the ledger tells, then the ledger."""
    write_card(folder, ledger)
    write_text(folder / LEDGER, ledger.model_dump_json(indent=1) + "\n")


def _rows(
    samples: Iterable[Packed | Kept[ShardSample]], split: Split, encoders: "_Encoders", spec: ShardsSpec
) -> Iterator[Made[ShardSample] | Kept[ShardSample]]:
    for packed in samples:
        if isinstance(packed, Kept):
            encoders.check(packed.key, packed.record.encoders, is_kept=True)
            yield packed
            continue
        if packed.sample.split is not split:
            raise ValueError(
                f"{packed.sample.key} is of split {packed.sample.split}, but was handed in for {split}"
            )
        provenance = encoders.of(packed)
        yield made(packed, provenance, spec)


def sizes_of(packed: Packed, encoders: Sequence[str], spec: ShardsSpec) -> Sizes:
    """Of the members of a sample, of whose encoders those named go into its tar."""
    return made(packed, _beside(packed, encoders), spec).sizes


def _beside(packed: Packed, names: Sequence[str]) -> tuple[EncoderProvenance, ...]:
    return tuple(encoder for encoder in packed.features.meta.encoders if encoder.name in names)


def made(packed: Packed, encoders: tuple[EncoderProvenance, ...], spec: ShardsSpec) -> Made[ShardSample]:
    """A sample as a tar will hold it; `encoders` are those whose features lie beside it."""
    record = shard_sample(packed, encoders)
    found = members(record, packed.features, encoders, spec)
    sizes = tuple((member.suffix, member.size) for member in found)
    if packed.whole is None:
        return Made(record.key, record, sizes, found.copy)
    carried = spec.carries_frames(record.modality, record.category)
    return Made(record.key, record, sizes, Whole(found[0], packed.whole, encoders, spec, carried))


class _Encoders:
    """Holds all samples of a mixture to one list of encoders: features of two must never be mixed.

    Of a sample's encoders only those in `names` go into its tar; the others are columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._first: tuple[EncoderProvenance, ...] | None = None
        self._origins: set[bool] = set()

    def of(self, packed: Packed) -> tuple[EncoderProvenance, ...]:
        found = _beside(packed, self._names)
        self.check(packed.sample.key, found, is_kept=False)
        return found

    def check(self, key: str, found: tuple[EncoderProvenance, ...], is_kept: bool) -> None:
        self._first = found if self._first is None else self._first
        self._origins.add(is_kept)
        if found == self._first and [encoder.name for encoder in found] == self._names:
            return
        differs = (
            f"features of {key} come from {found}, this mixture's from {self._first} in the order {self._names}"
        )
        if len(self._origins) > 1:
            raise InputError(
                f"{differs}: samples are kept as they are, so the others need the same weights; put the old ones "
                "back, or build without --amend"
            )
        raise ValueError(f"{differs}: encode all samples with the same weights and preprocessing")

    def found(self) -> tuple[EncoderProvenance, ...]:
        if self._first is None:
            raise ValueError("a mixture of no samples cannot be written: check the plan's quotas")
        return self._first


def _entry(shard: WrittenTar[ShardSample], split: Split, lines: Sequence[Mapping[str, int]]) -> ShardEntry:
    count = Count(**{field: sum(line[field] for line in lines) for field in Count.model_fields})
    return ShardEntry(name=shard.name, split=split, sha256=shard.sha256, size_bytes=shard.size_bytes, count=count)


def _ledger(
    account: Account,
    spec: ShardsSpec,
    tally: Tally,
    entries: Sequence[ShardEntry],
    encoders: tuple[EncoderProvenance, ...],
) -> Ledger:
    asked = tuple(_found(row, tally.found(row.stratum), account) for row in account.asked)
    # Copied as records, not dumped and read back: a record already checked itself at birth.
    kept = {name: getattr(account, name) for name in Account.model_fields if name != "asked"}
    return Ledger(
        **kept,
        asked=asked,
        frames_for=spec.frames_for,
        frames_codec=spec.frames_codec,
        **tally.tables(),
        origins=tally.origins(),
        member_bytes=tally.member_bytes(),
        encoders=encoders,
        storage_loss=tally.storage_loss(),
        shards=tuple(entries),
        root_sha256=digest([entry.sha256 for entry in entries]),
    )


def _found(row: Asked, count: Count, account: Account) -> Asked:
    measured = count.of(account.unit) if row.target else 0
    return row.model_copy(update={"found": count.samples, "measured": measured})
