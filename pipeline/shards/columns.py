"""Columns: an encoder in tars of its own, `shards/{split}-{000000}.{encoder}.tar`, beside the shards.

    {key}.{encoder}.json            whose features these are, and what made them (`ColumnSample`)
    {key}.{encoder}.npy             as in a sample's own tar; likewise `.scale.npy` and `.frames.*`

A column has the keys of the shards in their order, shard by shard, and an index of its own, so it comes, goes
and is replaced without a change to any other file but the ledger and the card.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pipeline.shards.contents import column_names, names_of
from pipeline.shards.index import COLUMN_SCHEMA, IndexWriter, column_index, read_index, starts_in
from pipeline.shards.kept import Kept
from pipeline.shards.members import Member, Whole, array_members, check_names
from pipeline.shards.packing import Cuts, Made, write_tars
from pipeline.shards.tally import mean_loss
from pipeline.shards.writer import write_ledger
from pipeline.storage.files import link, published, write_text
from pipeline.storage.places import Place
from schemas.arrays import EncoderProvenance, Features, StorageLoss
from schemas.base import Name, Record, Sha256, digest
from schemas.ledger import CARD, INDEX, LEDGER, Column, ColumnSample, ColumnShard, Count, Ledger
from schemas.recipe import ShardsSpec
from schemas.rejection import REJECTIONS
from schemas.sample import Modality, Sample, Split

COLUMN = "column.json"
"""Written last into the folder of a column."""


@dataclass(frozen=True)
class Encoded:
    """One sample with the features of a column."""

    sample: Sample
    features: Features
    """Whole, or in outline."""
    whole: Callable[[], Features] | None = None
    """Reads the features where there is but their outline. Picklable."""


class WrittenColumn(Record):
    """What a ledger will tell of a column."""

    column: Column
    provenance: EncoderProvenance
    storage_loss: dict[Name, StorageLoss]
    member_bytes: dict[str, int]
    split_bytes: dict[Split, int]
    """Of its members, by split."""

    @classmethod
    def read(cls, folder: Place) -> Self:
        """Of the column in `folder`."""
        return cls.model_validate_json((folder / COLUMN).read_bytes())


def write_column(
    folder: Place,
    encoder: str,
    splits: Mapping[Split, Iterable[Encoded | Kept[ColumnSample]]],
    spec: ShardsSpec,
    starts: Mapping[Split, Sequence[int]],
    writers: int = 1,
) -> WrittenColumn:
    """Writes the tars of `encoder`, their index and, last, `column.json` into `folder`.

    `splits` holds the samples of the shards, in their order, encoded now or kept as a finished column has them, and
    is read once, lazily; `spec` is the shards' own, and so are `starts`, the positions at which their tars begin.
    `writers` tars are written at once, which changes no byte.
    Raises ValueError when samples were encoded with different weights, or there is none.
    """
    rows, shards, sizes, by_split = _Rows(encoder, spec), [], dict[str, int](), dict[Split, int]()
    with published(folder / column_index(encoder)) as path, IndexWriter(path, COLUMN_SCHEMA) as index:
        for split in Split:
            position = 0
            encoded = rows.of(splits.get(split, ()))
            cuts = Cuts.at(starts.get(split, ()))
            for tar in write_tars(folder, split, encoded, cuts, writers, f".{encoder}"):
                for sample, place in tar.samples:
                    index.add(split, position, sample.key, tar.name, place)
                    position += 1
                    by_split[split] = by_split.get(split, 0) + sum(place.sizes)
                    for suffix, size in zip(place.members, place.sizes, strict=True):
                        sizes[suffix] = sizes.get(suffix, 0) + size
                shards.append(ColumnShard(name=tar.name, sha256=tar.sha256, size_bytes=tar.size_bytes))
    written = WrittenColumn(
        column=Column(encoder=encoder, shards=tuple(shards)),
        provenance=rows.provenance(),
        storage_loss={encoder: mean_loss(rows.losses)} if rows.losses else {},
        member_bytes=sizes,
        split_bytes=by_split,
    )
    write_text(folder / COLUMN, written.model_dump_json(indent=1) + "\n")
    return written


def join(
    folder: Place, shards: Place, columns: Mapping[str, Place], encoders: Sequence[str], recipe_sha256: Sha256
) -> Ledger:
    """Makes `folder` the mixture of `shards` (what `write_mixture` wrote) with `columns` (encoder -> its folder).

    Files are linked, not copied; only ledger and card are written. `encoders` is the recipe's order. Raises
    ValueError when a column is of other samples than the shards.
    """
    told = Ledger.read(shards)
    for encoder, path in columns.items():
        _check_aligned(shards, path, encoder, list(told.total))
    written = {encoder: WrittenColumn.read(path) for encoder, path in columns.items()}
    for name in (*names_of(told), REJECTIONS):
        if name not in (LEDGER, CARD) and (name != REJECTIONS or (shards / name).is_file()):
            link(shards / name, folder / name)
    for encoder, path in columns.items():
        for name in column_names(written[encoder].column):
            link(path / name, folder / name)
    ledger = _joined(told, [written[name] for name in encoders if name in written], encoders, recipe_sha256)
    write_ledger(folder, ledger)
    return ledger


def _check_aligned(shards: Place, column: Place, encoder: str, splits: Sequence[str]) -> None:
    for split in splits:
        own, theirs = (
            read_index(folder, split, ["key"], name)["key"]
            for folder, name in ((shards, INDEX), (column, column_index(encoder)))
        )
        if not own.equals(theirs):
            raise ValueError(f"the column {encoder} is of other {split} samples than the shards")
        if starts_in(shards, split) != starts_in(column, split, column_index(encoder)):
            raise ValueError(f"the tars of the column {encoder} hold other {split} samples than the shards'")


def _joined(told: Ledger, columns: Sequence[WrittenColumn], encoders: Sequence[str], recipe: Sha256) -> Ledger:
    provenance = {e.name: e for e in (*told.encoders, *(column.provenance for column in columns))}
    losses, sizes, counts = dict(told.storage_loss), dict(told.member_bytes), dict(told.by_encoder)
    for column in columns:
        losses |= column.storage_loss
        sizes |= column.member_bytes
        counts |= _counts(told, column)
    shas = [entry.sha256 for entry in told.shards] + [tar.sha256 for c in columns for tar in c.column.shards]
    return told.model_copy(
        update={
            "recipe_sha256": recipe,
            "encoders": tuple(provenance[name] for name in encoders),
            "storage_loss": {name: losses[name] for name in encoders if name in losses},
            "member_bytes": sizes,
            "by_encoder": dict(sorted(counts.items())),
            "columns": tuple(column.column for column in columns),
            "root_sha256": digest(shas),
        }
    )


def _counts(told: Ledger, column: WrittenColumn) -> dict[str, Count]:
    """By `split/encoder`: every sample but texts has clips, and a column has features of every sample."""
    found = {}
    for split, size_bytes in column.split_bytes.items():
        labels = (f"{split}/{modality}" for modality in Modality if modality is not Modality.TEXT)
        lines = [told.by_modality.get(label, Count()) for label in labels]
        sums = {field: sum(getattr(line, field) for line in lines) for field in Count.model_fields}
        found[f"{split}/{column.column.encoder}"] = Count(**{**sums, "bytes": size_bytes})
    return found


class _Rows:
    """Members of a column, held to one provenance."""

    def __init__(self, encoder: str, spec: ShardsSpec) -> None:
        self._encoder, self._spec = encoder, spec
        self._first: EncoderProvenance | None = None
        self.losses: list[tuple[int, StorageLoss]] = []

    def of(
        self, samples: Iterable[Encoded | Kept[ColumnSample]]
    ) -> Iterator[Made[ColumnSample] | Kept[ColumnSample]]:
        for encoded in samples:
            if isinstance(encoded, Kept):
                told = encoded.record
                self._check(encoded.key, told.key, told.encoder)
                self.losses += [(encoded.clips, loss) for loss in told.storage_loss.values()]
                yield encoded
                continue
            sample, features = encoded.sample, encoded.features
            record = self._record(sample, features)
            carried = self._spec.carries_frames(sample.modality, sample.category)
            json = Member(f"{self._encoder}.json", record.canonical().encode())
            members = [json, *array_members(features, (record.encoder,), self._spec, carried)]
            check_names(sample.key, members)
            self.losses += [(len(features.meta.clips), loss) for loss in record.storage_loss.values()]
            sizes = tuple((member.suffix, member.size) for member in members)
            read = encoded.whole and Whole(json, encoded.whole, (record.encoder,), self._spec, carried)
            yield Made(record.key, record, sizes, read or members.copy)

    def provenance(self) -> EncoderProvenance:
        if self._first is None:
            raise ValueError(f"a column {self._encoder} of no samples cannot be written")
        return self._first

    def _record(self, sample: Sample, features: Features) -> ColumnSample:
        meta = features.meta
        found = next(encoder for encoder in meta.encoders if encoder.name == self._encoder)
        self._check(sample.key, meta.key, found)
        return ColumnSample(
            key=sample.key,
            binding_sha256=sample.binding_sha256(),
            clips_sha256=digest([clip.model_dump(mode="json") for clip in meta.clips]),
            encoder=found,
            storage_loss={name: loss for name, loss in meta.storage_loss.items() if name == self._encoder},
        )

    def _check(self, key: str, told: str, found: EncoderProvenance) -> None:
        self._first = self._first or found
        if found != self._first or told != key:
            raise ValueError(f"features of {told} come from {found}, the column's ({key}) {self._first}")
