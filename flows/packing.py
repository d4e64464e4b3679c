"""From what the stages gave to the folder of a mixture: shards, columns, and both under one ledger.

    <workspace>/shards/<fingerprint>/     all of a mixture without columns
    <workspace>/columns/<fingerprint>/    one encoder's tars and index
    <workspace>/mixture/<fingerprint>/    shards and columns, linked, with their common ledger and card

What shards hold follows from the recipe without its columns and from the inputs, so their fingerprint is known
before anything is produced: an encoder that is added or replaced later finds them whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, cast

from flows.columns import Readers, encoded, samples_in
from flows.display import Display
from flows.quarantine import REJECTIONS, write_rejections
from pipeline.conversations.stage import Converse
from pipeline.decode.stage import Decode
from pipeline.features.stage import Encode
from pipeline.runtime.workspace import Artefact, Work, Workspace
from pipeline.shards.columns import join, write_column
from pipeline.shards.members import Packed
from pipeline.shards.reader import ShardReader
from pipeline.shards.writer import write_mixture
from schemas.arrays import Features
from schemas.conversation import Conversation
from schemas.encoders import EncoderSpec
from schemas.ledger import Account, Ledger
from schemas.recipe import Recipe
from schemas.rejection import Rejection
from schemas.sample import Sample, Split

Step = Callable[[], None]
"""Called once a sample."""


@dataclass(frozen=True)
class Produced:
    """What shards are made of."""

    order: Mapping[Split, Sequence[Sample]]
    """The mixture's samples, in their order."""
    talks: Readers
    features: Readers
    account: Account
    rejections: Iterable[Rejection]


@dataclass
class Packing:
    """The last steps of one build before its audit."""

    recipe: Recipe
    workspace: Workspace
    display: Display
    samples: Mapping[str, Sample]
    """Candidates by key."""
    sources: tuple[str, ...]
    """Fingerprints of what was ingested."""
    stamps: Mapping[str, Any]
    """By encoder, what tells its weights from others under the same name."""
    encode: Callable[[Sequence[Sample], Mapping[str, EncoderSpec]], Readers]
    """Decodes and encodes samples, for columns that come later than their shards."""

    @cached_property
    def shards(self) -> Artefact | None:
        """The shards, if an earlier build made them: then nothing need be produced but features of new columns."""
        return self.workspace.find(self._shards_work)

    def pack(self, produced: Produced | None) -> Artefact:
        """The mixture. `produced` may be None where `shards` are found."""
        # Columns first: shards that are whole then have theirs, or were made before the recipe named them.
        columns = {name: self._column(name, produced) for name in self.recipe.columns}
        shards = self.shards or self._packed(produced)
        if not columns:
            return shards
        recipe = self.recipe
        made_of = (shards.fingerprint, *(column.fingerprint for column in columns.values()))
        folders = {name: column.folder for name, column in columns.items()}
        order, sha256 = list(recipe.encoders), recipe.mixture_sha256()
        return self.workspace.once(
            Work("mixture", 1, {"recipe": sha256}, made_of),
            lambda folder: _counts(join(folder, shards.folder, folders, order, sha256)),
        )

    @cached_property
    def _shards_work(self) -> Work:
        recipe = self.recipe.without_columns()
        config = {
            "recipe": recipe.mixture_sha256(),
            "stages": [[stage.name, stage.version] for stage in (Converse, Decode, Encode)],
            "weights": {name: self.stamps[name] for name in recipe.encoders},
        }
        # Raise the version when the plan, the order or the writer would make other shards of the same inputs.
        return Work("shards", 3, config, self.sources)

    def _column_work(self, name: str) -> Work:
        config = {
            "encoder": [name, self.recipe.encoders[name].model_dump(mode="json")],
            "weights": self.stamps[name],
            "stages": [[stage.name, stage.version] for stage in (Decode, Encode)],
        }
        return Work("columns", 1, config, (self._shards_work.fingerprint,))

    def _column(self, name: str, produced: Produced | None) -> Artefact:
        work = self._column_work(name)
        if found := self.workspace.find(work):
            return found
        order, features = (produced.order, produced.features) if produced else (self._found_order, self._late)
        spec = self.recipe.shards

        def build(folder: Path, step: Step) -> Mapping[str, int]:
            readers = {split: None if produced else self._reader(split) for split in order}
            splits = {
                split: _stepped(encoded(name, samples, features, readers[split]), step)
                for split, samples in order.items()
            }
            return {"tars": len(write_column(folder, name, splits, spec).column.shards)}

        return self._once(f"column {name}", work, sum(map(len, order.values())), build)

    def _packed(self, produced: Produced | None) -> Artefact:
        if produced is None:
            raise ValueError("no shards are there, and nothing was produced to make them of")
        recipe = self.recipe.without_columns()

        def build(folder: Path, step: Step) -> Mapping[str, int]:
            splits = {
                split: _stepped(_records(samples, produced), step) for split, samples in produced.order.items()
            }
            ledger = write_mixture(folder, splits, list(recipe.encoders), recipe.shards, produced.account)
            write_rejections(folder / REJECTIONS, produced.rejections)
            return _counts(ledger)

        return self._once("shards", self._shards_work, sum(map(len, produced.order.values())), build)

    @cached_property
    def _found_order(self) -> Mapping[Split, Sequence[Sample]]:
        return samples_in(self._found.folder, self.samples)

    @cached_property
    def _late(self) -> Readers:
        """Features of the shards' samples by the encoders that lack a column, all in one pass over the media."""
        lacking = [name for name in self.recipe.columns if not self.workspace.find(self._column_work(name))]
        samples = [sample for samples in self._found_order.values() for sample in samples]
        return self.encode(samples, {name: self.recipe.encoders[name] for name in lacking})

    @property
    def _found(self) -> Artefact:
        if self.shards is None:
            raise ValueError("no shards were found")
        return self.shards

    def _reader(self, split: Split) -> ShardReader:
        return ShardReader(self._found.folder, split)

    def _once(
        self, label: str, work: Work, total: int, build: Callable[[Path, Step], Mapping[str, int]]
    ) -> Artefact:
        with self.display.progress(label, total) as progress:
            done = count(1)
            made = self.workspace.once(work, lambda folder: build(folder, lambda: progress(next(done), total)))
            progress(total, total)
        return made


def _records(samples: Iterable[Sample], produced: Produced) -> Iterator[Packed]:
    for sample in samples:
        talk, features = produced.talks[sample.key](), produced.features[sample.key]()
        yield Packed(sample, cast("Conversation", talk), cast("Features", features))


def _stepped(rows: Iterable[Any], step: Step) -> Iterator[Any]:
    for row in rows:
        yield row
        step()


def _counts(ledger: Ledger) -> Mapping[str, int]:
    return {"samples": sum(total.samples for total in ledger.total.values())}
