"""Stable choice: candidates ranked by a hash of (seed, key), and replaced by their stratum's reserves.

The rank of a candidate depends on nothing but the seed and its own key, so adding a source or
raising the total keeps what was chosen before; and the choice after failures is the first `quota`
of those that have not failed, whatever order they failed in.

Candidates are columns, for there may be millions: their keys in Arrow, their ranks as row numbers.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.plan.quotas import QuotaError
from schemas.plan import Quota, Stratum
from schemas.sample import Sample

Rows = NDArray[np.int32]
"""Row numbers of candidates."""

DIGEST = np.dtype([("high", ">u8"), ("low", ">u8")])
"""A rank hash as numbers: they compare as its bytes do. NumPy's own bytes would lose zeros at their end."""

CHUNK = 1 << 16
"""Keys that are Python objects at once."""


@dataclass(frozen=True)
class Candidates:
    """Who may be chosen."""

    keys: Any
    """Arrow, [candidates] large_string."""
    rows: Mapping[Stratum, Rows]
    """The rows of each stratum, best first."""

    def of(self, stratum: Stratum) -> Rows:
        """The stratum's rows, best first; none for a stratum that was not found."""
        return self.rows.get(stratum, np.empty(0, np.int32))

    def keys_at(self, rows: Rows) -> list[str]:
        """The keys of these rows, in their order."""
        found: list[str] = self.keys.take(pa.array(rows)).to_pylist()
        return found

    def counts(self) -> dict[Stratum, int]:
        """Candidates of each stratum."""
        return {stratum: len(rows) for stratum, rows in self.rows.items()}


NOBODY = Candidates(pa.array([], pa.large_string()), {})


def rank_hash(seed: int, key: str, purpose: str = "choose") -> bytes:
    """The place of `key` in its stratum: a 16-byte digest, compared as bytes."""
    return hashlib.blake2b(f"{purpose}:{seed}:{key}".encode(), digest_size=16).digest()


def best_first(keys: Any, seed: int, purpose: str = "choose") -> NDArray[np.intp]:
    """Indices that sort `keys` (Arrow, [keys] large_string) by `rank_hash`: of all at once, not one by one."""
    start, digests = f"{purpose}:{seed}:".encode(), np.empty(len(keys), DIGEST)
    for begin in range(0, len(keys), CHUNK):
        part = keys.slice(begin, CHUNK).cast(pa.large_binary()).to_pylist()
        found = b"".join([hashlib.blake2b(start + key, digest_size=16).digest() for key in part])
        digests[begin : begin + len(part)] = np.frombuffer(found, DIGEST)
    return np.lexsort((digests["low"].astype(np.uint64), digests["high"].astype(np.uint64)))


def stratum_of(sample: Sample) -> Stratum:
    """The stratum a candidate competes in."""
    return Stratum(split=sample.split, modality=sample.modality, source=sample.source)


def ranked(samples: Iterable[Sample], seed: int) -> Candidates:
    """The candidates that samples are."""
    codes: dict[Stratum, int] = {}
    keys, of_key = [], []
    for sample in samples:
        keys.append(sample.key)
        of_key.append(codes.setdefault(stratum_of(sample), len(codes)))
    return rank(pa.array(keys, pa.large_string()), np.array(of_key, np.uint16), list(codes), seed)


def rank(keys: Any, codes: NDArray[np.uint16], strata: Sequence[Stratum], seed: int) -> Candidates:
    """The candidates of columns.

    Args:
        keys: Arrow, [candidates] large_string, each once.
        codes: [candidates], the place in `strata` of each one's stratum.
        strata: Their names.
        seed: Of the ranks.
    """
    rows = {stratum: np.flatnonzero(codes == code).astype(np.int32) for code, stratum in enumerate(strata)}
    best = {stratum: own[best_first(keys.take(pa.array(own)), seed)] for stratum, own in rows.items()}
    return Candidates(keys, best)


def choose(quotas: Iterable[Quota], candidates: Candidates, failed: Set[str]) -> dict[Stratum, Rows]:
    """The chosen rows of each stratum, best first: the first `quota` whose keys are not in `failed`.

    Raises QuotaError when failures have used up a stratum's reserves.
    """
    chosen: dict[Stratum, Rows] = {}
    lost = np.asarray(pc.is_in(candidates.keys, pa.array(failed, pa.large_string())))
    for quota in quotas:
        rows = candidates.of(quota.stratum)
        alive = rows[~lost[rows]]
        if len(alive) < quota.samples:
            raise QuotaError(
                f"{quota.stratum.label} needs {quota.samples} samples, but only {len(alive)} of its "
                f"{quota.candidates} candidates survived, {quota.samples - len(alive)} short{quota.bars}. See why "
                "with `mixture quarantine list`; then mend the data, add candidates, or lower the share."
            )
        chosen[quota.stratum] = alive[: quota.samples]
    return chosen
