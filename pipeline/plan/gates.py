"""The gates, before anything costly: candidates that the recipe shuts out are counted and go no further."""

from collections import Counter
from collections.abc import Container, Iterable
from functools import lru_cache

from pipeline.plan.choose import stratum_of
from schemas.gates import Gates
from schemas.plan import Barred
from schemas.sample import Generator, Sample


def sift(
    samples: Iterable[Sample], gates: Gates, divided: Container[str] = ()
) -> tuple[list[Sample], tuple[Barred, ...]]:
    """The samples that may enter, in their order, and the account of the others by stratum and reason.

    `divided` are the sources whose categories are strata of their own.
    """
    if gates.is_open:
        return list(samples), ()
    entered, counts = list[Sample](), Counter[tuple[str, str, str]]()
    # Terms are few where samples are millions.
    bar_of = lru_cache(4_096)(lambda licence, name, model: gates.bar(licence, Generator(name=name, model=model)))
    for sample in samples:
        if (bar := bar_of(sample.licence, sample.annotator.name, sample.annotator.model)) is None:
            entered.append(sample)
        else:
            counts[stratum_of(sample, divided).label, *bar] += 1
    names = ("stratum", "gate", "value", "samples")
    rows = [dict(zip(names, (*reason, number), strict=True)) for reason, number in sorted(counts.items())]
    return entered, tuple(Barred.model_validate(row) for row in rows)
