"""What candidates come to in the unit of the mixture: an estimate at first, a count once they are worked on."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from flows.columns import Readers
from flows.planning import clips_of_span
from pipeline.plan.choose import Candidates, Sizes
from pipeline.plan.estimate import estimated
from pipeline.plan.passes import Passes
from pipeline.runtime.contract import Keyed
from pipeline.runtime.located import Reader
from pipeline.runtime.passes import metas
from pipeline.runtime.workspace import Artefact
from pipeline.shards.kept import Kept
from pipeline.shards.members import Packed
from pipeline.shards.tally import counted
from pipeline.shards.writer import sizes_of
from schemas.arrays import Features, FeaturesMeta
from schemas.conversation import Conversation
from schemas.ledger import ShardSample
from schemas.plan import Stratum
from schemas.recipe import Recipe
from schemas.sample import Sample
from schemas.units import Unit

SPOKEN = (Unit.TURNS, Unit.LLM_TOKENS)
"""Known once a sample was talked about; what then proves too much is not decoded and encoded."""


@dataclass(frozen=True)
class Again:
    """Reads what a stage gave for a sample, as that of the same sample in a later pass."""

    read: Reader
    sample: Sample

    def __call__(self) -> Keyed:
        """All of it."""
        return self._again(self.read())

    def outline(self) -> Keyed:
        """Of features without what their arrays hold."""
        return self._again(self.read.outline())

    def _again(self, outcome: Keyed) -> Keyed:
        sample = self.sample
        if isinstance(outcome, Features):
            return replace(outcome, meta=outcome.meta.model_copy(update={"key": sample.key}))
        if isinstance(outcome, Conversation):
            return outcome.of_pass(sample.key, sample.binding_sha256())
        return outcome


@dataclass(frozen=True)
class WithPasses(Mapping[str, Reader]):
    """Readers of outcomes, of later passes too: those have what the first pass gave."""

    readers: Readers
    passes: Passes

    def __getitem__(self, key: str) -> Reader:
        first = self.passes.first(key)
        return self.readers[key] if first == key else Again(self.readers[first], self.passes[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


@dataclass
class Measuring:
    """The amounts of all candidates, as they become known. Of samples there is nothing to measure."""

    recipe: Recipe
    candidates: Candidates
    passes: Passes
    _rows: dict[str, list[int]] = field(default_factory=dict)
    """Of each sample, in all its passes."""

    def __post_init__(self) -> None:
        number = 0 if self.unit is Unit.SAMPLES else len(self.candidates.keys)
        self._amounts: NDArray[np.int64] = np.zeros(number, np.int64)
        self._is_known = np.full(number, self.unit is Unit.SECONDS)
        for row, key in enumerate(self.candidates.keys.to_pylist() if number else ()):
            self._rows.setdefault(self.passes.first(key), []).append(row)
        for first, rows in self._rows.items():
            self._amounts[rows] = estimated(self.passes[first], self.unit, self.recipe, self._clips_of)

    @property
    def unit(self) -> Unit:
        """Of the mixture."""
        return self.recipe.mixture.unit

    @property
    def sizes(self) -> Sizes | None:
        """For `choose`."""
        return None if self.unit is Unit.SAMPLES else Sizes(self._amounts, self._is_known)

    def supply(self) -> dict[Stratum, int] | None:
        """What each stratum comes to, where that is known before any work."""
        if self.unit is not Unit.SECONDS:
            return None
        return {stratum: int(self._amounts[rows].sum()) for stratum, rows in self.candidates.rows.items()}

    def kept(self, samples: Iterable[Kept[ShardSample]]) -> None:
        """Takes in what samples that are kept from an earlier mixture come to."""
        if self.unit is Unit.SAMPLES:
            return
        at = {key: row for row, key in enumerate(self.candidates.keys.to_pylist())}
        for sample in samples:
            line = counted(sample.record, sum(sample.place.sizes), self.recipe.mixture.tokens_per_frame)
            if sample.key in at:
                self._know([at[sample.key]], line[self.unit.field])

    def spoken(self, talks: Artefact) -> None:
        """Takes in what talks come to."""
        if self.unit in SPOKEN:
            for talk in metas(talks):
                if isinstance(talk, Conversation):
                    amount = len(talk.turns) if self.unit is Unit.TURNS else talk.llm_tokens
                    self._know(self._rows[talk.key], amount)

    def encoded(self, artefact: Artefact, talks: Readers, features: Readers) -> None:
        """Takes in what decoded and encoded samples come to."""
        if self.unit in (Unit.VISUAL_TOKENS, Unit.BYTES):
            for meta in metas(artefact):
                if not isinstance(meta, FeaturesMeta):
                    continue
                if self.unit is Unit.VISUAL_TOKENS:
                    frames = sum(len(clip.t_ns) for clip in meta.clips)
                    self._know(self._rows[meta.key], frames * self.recipe.mixture.tokens_per_frame)
                else:
                    for row in self._rows[meta.key]:
                        self._know([row], self._bytes(self._key(row), talks, features))

    def _key(self, row: int) -> str:
        return str(self.candidates.keys[row].as_py())

    def _know(self, rows: list[int], amount: int) -> None:
        self._amounts[rows] = amount
        self._is_known[rows] = True

    def _bytes(self, key: str, talks: Readers, features: Readers) -> int:
        """Of the members of a sample in its tar."""
        talk, found = (WithPasses(each, self.passes)[key].outline() for each in (talks, features))
        if not isinstance(talk, Conversation) or not isinstance(found, Features):
            raise TypeError(f"{key} was encoded, but there is {talk!r} and {type(found).__name__} of it")
        beside = list(self.recipe.without_columns().encoders)
        return sum(size for _, size in sizes_of(Packed(self.passes[key], talk, found), beside, self.recipe.shards))

    def _clips_of(self, span_ns: int, max_clips: int | None) -> int:
        return clips_of_span(span_ns, self.recipe.decode, max_clips)
