"""Stable choice: candidates ranked by a hash of (seed, key), and replaced by their stratum's reserves.

The rank of a candidate depends on nothing but the seed and its own key, so adding a source or
raising the total keeps what was chosen before; and the choice after failures is the first `quota`
of those that have not failed, whatever order they failed in. Where something else than samples is
shared, it is the first that together reach the target. Later passes over a source rank behind earlier ones.

Candidates are columns, for there may be millions: their keys in Arrow, their ranks as row numbers.
"""

import hashlib
from array import array
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.plan.quotas import QuotaError, told
from schemas.plan import Quota, Stratum
from schemas.sample import Sample, Split, key_again
from schemas.units import Unit

Rows = NDArray[np.int32]
"""Row numbers of candidates."""

Epochs = NDArray[np.uint8]

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
    epochs: Epochs | None = None
    """[candidates], which pass over its source each one is of; None where all are of the first."""

    def of(self, stratum: Stratum) -> Rows:
        """The stratum's rows, best first; none for a stratum that was not found."""
        return self.rows.get(stratum, np.empty(0, np.int32))

    def keys_at(self, rows: Rows) -> list[str]:
        """The keys of these rows, in their order."""
        found: list[str] = self.keys.take(pa.array(rows)).to_pylist()
        return found

    @property
    def longest_key(self) -> str:
        """Empty where there is none."""
        lengths = np.asarray(pc.binary_length(self.keys))
        return str(self.keys[int(lengths.argmax())].as_py()) if len(lengths) else ""

    def counts(self) -> dict[Stratum, int]:
        """Candidates of each stratum."""
        return {stratum: len(rows) for stratum, rows in self.rows.items()}


def rank_hash(seed: int, key: str, purpose: str = "choose") -> bytes:
    """The place of `key` in its stratum: a 16-byte digest, compared as bytes."""
    return hashlib.blake2b(f"{purpose}:{seed}:{key}".encode(), digest_size=16).digest()


def best_first(keys: Any, seed: int, purpose: str = "choose", epochs: Epochs | None = None) -> NDArray[np.intp]:
    """Indices that sort `keys` (Arrow, [keys] large_string) by epoch and `rank_hash`, all of them at once."""
    start, digests = f"{purpose}:{seed}:".encode(), np.empty(len(keys), DIGEST)
    for begin in range(0, len(keys), CHUNK):
        part = keys.slice(begin, CHUNK).cast(pa.large_binary()).to_pylist()
        found = b"".join([hashlib.blake2b(start + key, digest_size=16).digest() for key in part])
        digests[begin : begin + len(part)] = np.frombuffer(found, DIGEST)
    numbers = (digests["low"].astype(np.uint64), digests["high"].astype(np.uint64))
    return np.lexsort(numbers if epochs is None else (*numbers, epochs))


def stratum_of(sample: Sample, divided: Container[str] = ()) -> Stratum:
    """The stratum a candidate competes in; `divided` are the sources whose categories have shares of their own."""
    category = sample.category if sample.source in divided and sample.split is Split.TRAIN else None
    return Stratum(split=sample.split, modality=sample.modality, source=sample.source, category=category)


def ranked(
    samples: Iterable[Sample],
    seed: int,
    divided: Container[str] = (),
    repeats: Mapping[str, Fraction] | None = None,
) -> Candidates:
    """The candidates that samples are.

    Args:
        samples: Each once.
        seed: Of the ranks.
        divided: Sources whose categories are strata of their own.
        repeats: Passes over the train samples of a source; of 2.5 the last has the better half of each stratum.
    """
    codes: dict[Stratum, int] = {}
    columns: list[Any] = []
    keys, of_key, epochs = list[str](), array("H"), array("B")
    for sample in samples:
        code = codes.setdefault(stratum_of(sample, divided), len(codes))
        passes = repeats.get(sample.source, 1) if repeats and sample.split is Split.TRAIN else 1
        for epoch in range(ceil(passes)):
            keys.append(key_again(sample.key, epoch))
            of_key.append(code)
            epochs.append(epoch)
        if len(keys) >= CHUNK:
            columns.append(pa.array(keys, pa.large_string()))
            keys.clear()
    column = pa.concat_arrays([*columns, pa.array(keys, pa.large_string())])
    several = np.array(epochs, np.uint8) if repeats else None
    found = rank(column, np.array(of_key, np.uint16), list(codes), seed, several)
    return found if several is None or repeats is None else _shortened(found, several, repeats)


def rank(
    keys: Any,
    codes: NDArray[np.uint16],
    strata: Sequence[Stratum],
    seed: int,
    epochs: Epochs | None = None,
) -> Candidates:
    """The candidates of columns.

    Args:
        keys: Arrow, [candidates] large_string, each once.
        codes: [candidates], the place in `strata` of each one's stratum.
        strata: Their names.
        seed: Of the ranks.
        epochs: [candidates], which pass over its source each is of; None where all are of the first.
    """
    best: dict[Stratum, Rows] = {}
    for code, stratum in enumerate(strata):
        rows = np.flatnonzero(codes == code).astype(np.int32)
        of_rows = None if epochs is None else epochs[rows]
        best[stratum] = rows[best_first(keys.take(pa.array(rows)), seed, epochs=of_rows)]
    return Candidates(keys, best, epochs)


def _shortened(candidates: Candidates, epochs: Epochs, repeats: Mapping[str, Fraction]) -> Candidates:
    """Of the last pass over a source only as much as its repeats allow."""
    rows = dict(candidates.rows)
    for stratum, own in rows.items():
        if stratum.split is Split.TRAIN and stratum.source in repeats:
            first = int((epochs[own] == 0).sum())
            rows[stratum] = own[: floor(repeats[stratum.source] * first)]
    return Candidates(candidates.keys, rows, epochs)


@dataclass(frozen=True)
class Sizes:
    """What candidates come to in the unit of the mixture."""

    amounts: NDArray[np.int64]
    """[candidates]"""
    is_known: NDArray[np.bool_]
    """[candidates], whether the amount was counted; else it is an estimate."""


def choose(
    quotas: Iterable[Quota], candidates: Candidates, failed: Set[str], sizes: Sizes | None = None
) -> dict[Stratum, Rows]:
    """The chosen rows of each stratum, best first: the first `quota` whose keys are not in `failed`.

    Of a quota in another unit than samples, the first that together reach its target, by `sizes`. The choice is
    final once the amounts of all that are chosen are known: what the others are estimated at changes nothing then.
    Raises QuotaError when a stratum's candidates do not suffice, or failures have used up its reserves.
    """
    chosen: dict[Stratum, Rows] = {}
    lost = np.asarray(pc.is_in(candidates.keys, pa.array(failed, pa.large_string())))
    for quota in quotas:
        rows = candidates.of(quota.stratum)
        alive = rows[~lost[rows]]
        if quota.unit is Unit.SAMPLES:
            chosen[quota.stratum] = _first(quota, alive)
        elif sizes is None:
            raise ValueError(f"{quota.stratum.label} has a target in {quota.unit}: sizes are needed")
        else:
            chosen[quota.stratum] = _reaching(quota, alive, sizes)
    return chosen


def _first(quota: Quota, alive: Rows) -> Rows:
    if len(alive) < quota.samples:
        raise QuotaError(
            f"{quota.stratum.label} needs {quota.samples} samples, but only {len(alive)} of its "
            f"{quota.candidates} candidates survived, {quota.samples - len(alive)} short{quota.bars}. {_MEND}"
        )
    return alive[: quota.samples]


def _reaching(quota: Quota, alive: Rows, sizes: Sizes) -> Rows:
    reached = np.cumsum(sizes.amounts[alive])
    have = int(reached[-1]) if len(reached) else 0
    if have < quota.target and sizes.is_known[alive].all():
        raise QuotaError(
            f"{quota.stratum.label} needs {told(quota.target, quota.unit)}, but the {len(alive)} of its "
            f"{quota.candidates} candidates that survived come to {told(have, quota.unit)}, "
            f"{told(quota.target - have, quota.unit)} short{quota.bars}. {_MEND}"
        )
    return alive[: int(np.searchsorted(reached, quota.target)) + 1] if quota.target else alive[:0]


_MEND = (
    "See why with `mixture quarantine list`; then mend the data, add candidates, allow mixture.repeats, or lower "
    "the share."
)
