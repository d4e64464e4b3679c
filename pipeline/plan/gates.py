"""The gates, before anything costly: candidates that may not enter are counted and go no further.

    terms (licence, annotator) -> exclusion lists -> what the heldout split shares -> exact duplicates

Each gate sees only what those before it let in, and none knows who will be chosen or fail: who may enter follows
from the recipe and the candidates alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial

from pipeline.plan.choose import stratum_of
from pipeline.plan.exclusions import Exclusions
from pipeline.plan.sameness import duplicates, shared_with_heldout
from schemas.gates import Gates
from schemas.plan import Barred, GateName
from schemas.recipe import MixtureSpec
from schemas.sample import Generator, Sample

Bar = tuple[GateName, str]
"""A gate, and what it shuts out."""
Judge = Callable[[Sequence[Sample]], Iterator[Bar | None]]
"""For each of the samples its bar, in their order; None where it may enter."""


def sift(
    samples: Iterable[Sample], spec: MixtureSpec, exclusions: Exclusions | None = None
) -> tuple[list[Sample], tuple[Barred, ...]]:
    """The samples that may enter, in their order, and the account of the others by stratum and reason.

    Args:
        samples: In the order of ingest (the recipe's sources, then their entries): of equal ones the first stays.
        spec: What may enter. A source of weight 0 is left out: it bars nobody else.
        exclusions: What its lists name.
    """
    entered, counts = list(samples), Counter[tuple[str, str, str]]()
    for judge in _judges(spec, exclusions):
        came, entered = entered, []
        for sample, bar in zip(came, judge(came), strict=True):
            if bar is None:
                entered.append(sample)
            else:
                counts[stratum_of(sample).label, *bar] += 1
    names = ("stratum", "gate", "value", "samples")
    rows = [dict(zip(names, (*reason, number), strict=True)) for reason, number in sorted(counts.items())]
    return entered, tuple(Barred.model_validate(row) for row in rows)


def _judges(spec: MixtureSpec, exclusions: Exclusions | None) -> Iterator[Judge]:
    left_out = frozenset(source for source, weight in spec.weights.items() if not weight)
    if not spec.gates.is_open:
        yield partial(_terms, spec.gates)
    if exclusions:
        yield exclusions.bars
    if spec.heldout_total:
        yield partial(shared_with_heldout, left_out)
    yield partial(duplicates, left_out)


def _terms(gates: Gates, samples: Sequence[Sample]) -> Iterator[Bar | None]:
    # Terms are few where samples are millions.
    bar_of = lru_cache(4_096)(lambda licence, name, model: gates.bar(licence, Generator(name=name, model=model)))
    return (bar_of(s.licence, s.annotator.name, s.annotator.model) for s in samples)
