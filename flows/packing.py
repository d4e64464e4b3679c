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

from flows.columns import ColumnError, Readers, encoded, samples_in
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
from schemas.base import digest
from schemas.conversation import Conversation
from schemas.ledger import Account, Ledger
from schemas.recipe import Recipe
from schemas.rejection import Rejection
from schemas.sample import Sample, Split

Order = Mapping[Split, Sequence[Sample]]

Step = Callable[[], None]
"""Called once a sample."""


@dataclass(frozen=True)
class Produced:
    """What shards are made of."""

    order: Order
    """The mixture's samples, in their order."""
    talks: Readers
    features: Readers
    column_features: Readers
    """Of the pass that had all encoders at work, or why a sample has none there; `features` may have some."""
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
    encode: Callable[[Sequence[Sample], Sequence[str]], Readers]
    """Features of samples by these encoders, for columns that come later than their shards."""

    @cached_property
    def shards(self) -> Artefact | None:
        """The shards, if an earlier build made them: then nothing need be produced but features of new columns."""
        return self.workspace.find(self._shards_work)

    def pack(self, produced: Produced | None) -> Artefact:
        """The mixture. `produced` may be None where `shards` are found. Raises ColumnError."""
        if not self.recipe.columns:
            return self.shards or self._packed(produced)
        order = produced.order if produced else samples_in(self._found.folder, self.samples)
        # Columns first: shards that are whole then have theirs, or were made before the recipe named them.
        try:
            columns = self._columns(order, produced)
        except ColumnError:
            if produced:
                self._packed(produced)  # what was produced is not lost: the next build finds the shards whole
            raise
        return self._joined(self.shards or self._packed(produced), columns)

    def _joined(self, shards: Artefact, columns: Mapping[str, Artefact]) -> Artefact:
        recipe = self.recipe
        made_of = (shards.fingerprint, *(column.fingerprint for column in columns.values()))
        folders = {name: column.folder for name, column in columns.items()}
        encoders, sha256 = list(recipe.encoders), recipe.mixture_sha256()
        config = {"recipe": sha256, "shards": Ledger.read(shards.folder).root_sha256}
        return self.workspace.once(
            Work("mixture", 1, config, made_of),
            lambda folder: _counts(join(folder, shards.folder, folders, encoders, sha256)),
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
        return Work("shards", 5, config, self.sources)

    def _columns(self, order: Order, produced: Produced | None) -> dict[str, Artefact]:
        # Their order too: which samples shards hold follows from failures as well, and those may pass.
        keys = digest({split: [sample.key for sample in samples] for split, samples in order.items()})
        works = {name: self._column_work(name, keys) for name in self.recipe.columns}
        found = {name: self.workspace.find(work) for name, work in works.items()}
        lacking = [name for name, artefact in found.items() if artefact is None]
        if produced:
            features, shards = produced.column_features, None
        else:
            samples = [sample for own in order.values() for sample in own]
            features, shards = self.encode(samples, lacking) if lacking else {}, self._found.folder
        return {
            name: found[name] or self._column(name, work, order, features, shards) for name, work in works.items()
        }

    def _column_work(self, name: str, keys: str) -> Work:
        config = {
            "order": keys,
            "encoder": [name, self.recipe.encoders[name].model_dump(mode="json")],
            "weights": self.stamps[name],
            "stages": [[stage.name, stage.version] for stage in (Decode, Encode)],
        }
        return Work("columns", 2, config, (self._shards_work.fingerprint,))

    def _column(self, name: str, work: Work, order: Order, features: Readers, shards: Path | None) -> Artefact:
        """Made of `features`, which are held against `shards` where those were there before."""

        def build(folder: Path, step: Step) -> Mapping[str, int]:
            readers = {split: ShardReader(shards, split) if shards else None for split in order}
            splits = {
                split: _stepped(encoded(name, samples, features, readers[split]), step)
                for split, samples in order.items()
            }
            return {"tars": len(write_column(folder, name, splits, self.recipe.shards).column.shards)}

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

    @property
    def _found(self) -> Artefact:
        if self.shards is None:
            raise ValueError("no shards were found")
        return self.shards

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
