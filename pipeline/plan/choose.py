"""Stable choice: candidates ranked by a hash of (seed, key), and replaced by their stratum's reserves.

The rank of a candidate depends on nothing but the seed and its own key, so adding a source or
raising the total keeps what was chosen before; and the choice after failures is the first `quota`
of those that have not failed, whatever order they failed in.
"""

import hashlib
from collections.abc import Iterable, Mapping, Set

from pipeline.plan.quotas import QuotaError
from schemas.plan import Quota, Stratum
from schemas.sample import Sample


def rank_hash(seed: int, key: str, purpose: str = "choose") -> bytes:
    """The place of `key` in its stratum: a 16-byte digest, compared as bytes."""
    return hashlib.blake2b(f"{purpose}:{seed}:{key}".encode(), digest_size=16).digest()


def stratum_of(sample: Sample) -> Stratum:
    """The stratum a candidate competes in."""
    return Stratum(split=sample.split, modality=sample.modality, source=sample.source)


def ranked(samples: Iterable[Sample], seed: int) -> dict[Stratum, list[str]]:
    """The keys of each stratum, best first."""
    strata: dict[Stratum, list[str]] = {}
    for sample in samples:
        strata.setdefault(stratum_of(sample), []).append(sample.key)
    for keys in strata.values():
        keys.sort(key=lambda key: rank_hash(seed, key))
    return strata


def choose(
    quotas: Iterable[Quota], candidates: Mapping[Stratum, list[str]], failed: Set[str]
) -> dict[Stratum, list[str]]:
    """The chosen keys of each stratum, best first: the first `quota` that are not in `failed`.

    Raises QuotaError when failures have used up a stratum's reserves.
    """
    chosen: dict[Stratum, list[str]] = {}
    for quota in quotas:
        alive = [key for key in candidates.get(quota.stratum, []) if key not in failed]
        if len(alive) < quota.samples:
            raise QuotaError(
                f"{quota.stratum.label} needs {quota.samples} samples, but only {len(alive)} of its "
                f"{quota.candidates} candidates survived, {quota.samples - len(alive)} short{quota.bars}. See why "
                "with `mixture quarantine list`; then mend the data, add candidates, or lower the share."
            )
        chosen[quota.stratum] = alive[: quota.samples]
    return chosen
