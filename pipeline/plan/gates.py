"""The gates, before anything costly: candidates that may not enter are counted and go no further.

    terms (licence, annotator) -> exclusion lists -> what the heldout split shares -> exact duplicates

Each gate sees only what those before it let in, and none knows who will be chosen or fail: who may enter follows
from the recipe and the candidates alone. Candidates are met one by one: millions of them fit no memory.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache

from pipeline.plan.choose import stratum_of
from pipeline.plan.exclusions import Exclusions
from pipeline.plan.sameness import Duplicates, Heldout
from schemas.mixture import MixtureSpec
from schemas.plan import Barred, GateName
from schemas.sample import Generator, Sample, Split

Bar = tuple[GateName, str]
"""A gate, and what it shuts out."""


class Sieve:
    """Lets candidates through one by one, and counts those that it does not."""

    def __init__(
        self, spec: MixtureSpec, exclusions: Exclusions | None, stream: Callable[[], Iterable[Sample]]
    ) -> None:
        """Says how to sift.

        Args:
            spec: What may enter. A source of weight 0 is left out: it bars nobody else.
            exclusions: What its lists name.
            stream: All candidates in the order of ingest (the recipe's sources, then their entries), from the first
                one each time that it is called: of equal ones the first stays.
        """
        self._spec, self._exclusions, self._stream = spec, exclusions, stream
        self._left_out = frozenset(source for source, weight in spec.weights.items() if not weight)
        self._counts: Counter[tuple[str, str, str]] = Counter()
        # Terms are few where samples are millions.
        self._terms = lru_cache(4_096)(
            lambda licence, name, model: spec.gates.bar(licence, Generator(name=name, model=model))
        )

    def entered(self) -> Iterator[Sample]:
        """The candidates that may enter, in their order; once."""
        seen = Duplicates()
        for sample in self._stream():
            if bar := self._bar(sample, seen):
                self._counts[stratum_of(sample, self._spec.categories).label, *bar] += 1
            else:
                yield sample

    @property
    def barred(self) -> tuple[Barred, ...]:
        """The account of the others by stratum and reason, once all were met."""
        names = ("stratum", "gate", "value", "samples")
        rows = [dict(zip(names, (*reason, number), strict=True)) for reason, number in sorted(self._counts.items())]
        return tuple(Barred.model_validate(row) for row in rows)

    def _bar(self, sample: Sample, seen: Duplicates) -> Bar | None:
        if bar := self._excluded(sample):
            return bar
        if self._spec.heldout_total and sample.split is Split.TRAIN and (source := self._heldout.shares(sample)):
            return "heldout", source
        if sample.source not in self._left_out and (source := seen.first(sample)):
            return "duplicate", source
        return None

    def _excluded(self, sample: Sample) -> Bar | None:
        """By what the sample is, whatever the others are."""
        if bar := self._terms(sample.licence, sample.annotator.name, sample.annotator.model):
            return bar
        told = self._exclusions.named(sample) if self._exclusions else None
        return ("excluded", told) if told else None

    @cached_property
    def _heldout(self) -> Heldout:
        """All that may enter the heldout split."""
        found = (s for s in self._stream() if s.split is Split.HELDOUT and s.source not in self._left_out)
        return Heldout(sample for sample in found if not self._excluded(sample))
