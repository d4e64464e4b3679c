"""All candidates through the gates at once."""

from collections.abc import Sequence

from pipeline.plan.exclusions import Exclusions
from pipeline.plan.gates import Sieve
from schemas.mixture import MixtureSpec
from schemas.plan import Barred
from schemas.sample import Sample


def sift(
    samples: Sequence[Sample], spec: MixtureSpec, exclusions: Exclusions | None = None
) -> tuple[list[Sample], tuple[Barred, ...]]:
    """Those that may enter, and the account of the others."""
    sieve = Sieve(spec, exclusions, lambda: samples)
    return list(sieve.entered()), sieve.barred
