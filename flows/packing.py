"""From what the stages gave to the folder of a mixture: shards, columns, and both under one ledger.

    <workspace>/shards/<fingerprint>/     all of a mixture without columns
    <workspace>/columns/<fingerprint>/    one encoder's tars and index
    <workspace>/mixture/<fingerprint>/    shards and columns, linked, with their common ledger and card

What shards hold follows from the recipe without its columns and from the inputs, so their fingerprint is known
before anything is produced: an encoder that is added or replaced later finds them whole.
"""

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, cast

from flows.account import SHARDS_VERSION
from flows.amend import Base
from flows.columns import ColumnError, Readers, encoded, samples_in
from flows.display import Display
from flows.quarantine import write_rejections
from pipeline.conversations.stage import Converse
from pipeline.decode.stage import Decode
from pipeline.features.stage import Encode
from pipeline.runtime.records import Records, keys_of
from pipeline.runtime.workspace import Artefact, Work, Workspace
from pipeline.shards.columns import join, write_column
from pipeline.shards.index import starts_in
from pipeline.shards.kept import Kept, OldTars
from pipeline.shards.members import Packed
from pipeline.shards.packing import Cuts, sample_bytes, starts_of
from pipeline.shards.reader import ShardReader
from pipeline.shards.writer import sizes_of, write_mixture
from pipeline.storage.places import Place, place
from schemas.arrays import Features
from schemas.base import digest
from schemas.conversation import Conversation
from schemas.exclusions import ExclusionList
from schemas.ledger import Account, ColumnSample, Ledger, ShardSample
from schemas.recipe import Recipe
from schemas.rejection import REJECTIONS, Rejection
from schemas.sample import Sample, Split

Order = Mapping[Split, Sequence[Sample]]

Step = Callable[[], None]
"""Called once a sample."""


@dataclass(frozen=True)
class Contents:
    """What the tars of a mixture hold of each sample, whether made now or kept."""

    recipe: Recipe
    samples: Mapping[str, Sample]
    talks: Readers
    features: Readers
    base: Base | None = None
    """The mixture that this one is a change of."""
    kept: Set[str] = frozenset()
    """Keys whose samples are taken from there as they are."""

    def row(self, key: str) -> Packed | Kept[ShardSample]:
        """A sample as the writer takes it, its features in outline."""
        if self.base and key in self.kept:
            return self.base.sample(key)
        talk, reader = self.talks[key](), self.features[key]
        features = cast("Features", reader.outline())
        whole = cast("Callable[[], Features]", reader)
        return Packed(self.samples[key], cast("Conversation", talk), features, whole)

    def size(self, key: str) -> int:
        """Bytes that a sample takes in its tar: known without its arrays."""
        row, recipe = self.row(key), self.recipe.without_columns()
        return sample_bytes(
            row.sizes if isinstance(row, Kept) else sizes_of(row, list(recipe.encoders), recipe.shards)
        )


@dataclass(frozen=True)
class Produced:
    """What shards are made of."""

    order: Order
    """The mixture's samples, in their order."""
    starts: Mapping[Split, Sequence[int]]
    """Positions at which tars begin; of a split that is not named, where they are full."""
    contents: Contents
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
    exclusions: Sequence[ExclusionList]
    """In the recipe's order."""
    stamps: Mapping[str, Any]
    """By encoder, what tells its weights from others under the same name."""
    tokenizer: str
    """Digest of the recipe's tokenizer; empty where it names none."""
    encode: Callable[[Sequence[Sample], Sequence[str]], Readers]
    """Features of samples by these encoders, for columns that come later than their shards."""
    base: Base | None = None
    """The mixture that this one is a change of."""
    kept: Set[str] = frozenset()
    """Keys whose samples are taken from there as they are, if they are chosen."""

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
            "tokenizer": self.tokenizer,
            # The recipe has their names alone: a list that was changed is another list.
            "exclusions": [told.sha256 for told in self.exclusions],
        }
        asked = Work("shards", SHARDS_VERSION, config, self.sources)
        return self.base.work(asked) if self.base else asked

    def _columns(self, order: Order, produced: Produced | None) -> dict[str, Artefact]:
        # Their order too: which samples shards hold follows from failures as well, and those may pass.
        keys = digest({split: keys_of(samples) for split, samples in order.items()})
        works = {name: self._column_work(name, keys) for name in self.recipe.columns}
        found = {name: self.workspace.find(work) for name, work in works.items()}
        lacking = [name for name, artefact in found.items() if artefact is None]
        old = {name: self._old_column(name) for name in lacking}
        made = produced.column_features if produced else {}
        late = self._late(order, old, made)
        shards = self.shards or (self._packed(produced) if any(late.values()) else None)
        folder = shards.folder if shards else None
        starts = self._starts(folder, produced) if lacking else {}
        for name in lacking:
            features: Readers = ChainMap(cast("dict[str, Any]", late[name]), cast("dict[str, Any]", made))
            found[name] = self._column(name, works[name], order, features, folder, old[name], starts)
        return {name: artefact for name, artefact in found.items() if artefact}

    def _starts(self, shards: Place | None, produced: Produced | None) -> Mapping[Split, Sequence[int]]:
        """Where the tars of the shards begin, or will."""
        if shards or produced is None:
            folder = shards or self._found.folder
            return {Split(split): starts_in(folder, split) for split in Ledger.read(folder).total}
        cuts = {split: Cuts.full(self.recipe.shards, produced.starts.get(split, ())) for split in produced.order}
        return {
            split: starts_of(keys_of(samples), produced.contents.size, cuts[split])
            for split, samples in produced.order.items()
        }

    def _old_column(self, name: str) -> OldTars[ColumnSample] | None:
        if self.base is None:
            return None
        return self.base.column(name, self.recipe.encoders[name], self.stamps[name], _stages())

    def _late(
        self, order: Order, old: Mapping[str, OldTars[ColumnSample] | None], made: Readers
    ) -> dict[str, Readers]:
        """By column, the features that neither this build has made nor an old column holds."""
        found: dict[str, Readers] = {}
        keys = [key for own in order.values() for key in keys_of(own)]
        for has_old in (True, False):
            if names := [name for name, column in old.items() if bool(column) is has_old]:
                lacking = [key for key in keys if key not in made and not (has_old and key in self.kept)]
                samples = Records(lacking, self.samples.__getitem__)
                found |= dict.fromkeys(names, self.encode(samples, names) if lacking else {})
        return found

    def _column_work(self, name: str, keys: str) -> Work:
        config = {
            "order": keys,
            "encoder": [name, self.recipe.encoders[name].model_dump(mode="json")],
            "weights": self.stamps[name],
            "stages": _stages(),
        }
        return Work("columns", 2, config, (self._shards_work.fingerprint,))

    def _column(
        self,
        name: str,
        work: Work,
        order: Order,
        features: Readers,
        shards: Place | None,
        old: OldTars[ColumnSample] | None,
        starts: Mapping[Split, Sequence[int]],
    ) -> Artefact:
        """Made of `features`, which are held against `shards` where those were there before, and of `old` ones."""

        def build(folder: Place, step: Step) -> Mapping[str, int]:
            readers = {split: ShardReader(shards, split) if shards else None for split in order}
            splits = {
                split: _stepped(encoded(name, samples, features, readers[split], old), step)
                for split, samples in order.items()
            }
            recipe = self.recipe
            written = write_column(folder, name, splits, recipe.shards, starts, recipe.runtime.workers)
            return {"tars": len(written.column.shards)}

        return self._once(f"column {name}", work, sum(map(len, order.values())), build)

    def _packed(self, produced: Produced | None) -> Artefact:
        if produced is None:
            raise ValueError("no shards are there, and nothing was produced to make them of")
        recipe = self.recipe.without_columns()

        def build(folder: Place, step: Step) -> Mapping[str, int]:
            splits = {
                split: _stepped(map(produced.contents.row, keys_of(samples)), step)
                for split, samples in produced.order.items()
            }
            tokenizer = place(recipe.conversations.tokenizer) if self.tokenizer else None
            encoders, shards = list(recipe.encoders), recipe.shards
            ledger = write_mixture(
                folder,
                splits,
                encoders,
                shards,
                produced.account,
                tokenizer,
                produced.starts,
                recipe.runtime.workers,
            )
            write_rejections(folder / REJECTIONS, produced.rejections)
            return _counts(ledger)

        return self._once("shards", self._shards_work, sum(map(len, produced.order.values())), build)

    @property
    def _found(self) -> Artefact:
        if self.shards is None:
            raise ValueError("no shards were found")
        return self.shards

    def _once(
        self, label: str, work: Work, total: int, build: Callable[[Place, Step], Mapping[str, int]]
    ) -> Artefact:
        with self.display.progress(label, total) as progress:
            done = count(1)
            made = self.workspace.once(work, lambda folder: build(folder, lambda: progress(next(done), total)))
            progress(total, total)
        return made


def _stages() -> list[list[Any]]:
    """What makes features, with its versions."""
    return [[stage.name, stage.version] for stage in (Decode, Encode)]


def _stepped(rows: Iterable[Any], step: Step) -> Iterator[Any]:
    for row in rows:
        yield row
        step()


def _counts(ledger: Ledger) -> Mapping[str, int]:
    return {"samples": sum(total.samples for total in ledger.total.values())}
