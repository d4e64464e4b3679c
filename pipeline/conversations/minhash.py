"""Near-copies across a whole set: MinHash signatures, compared where their bands agree.

    rows = np.stack([signature(text) for text in texts])
    for copy, original in near_copies(rows, ranks): ...

By hand, in numpy: the package datasketch needs scipy, took as long for a signature (1 ms for 150 words, measured
side by side), and its index of Python dicts 0.1 ms a row to insert and look up, where sorting bands takes 0.01 ms
and 15 MB beside the signatures of 200,000 texts. Four million texts are 2 GB of signatures.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 126
BANDS = 21
"""Of 6 values each: texts of Jaccard index 0.8 agree in one with probability 0.998, of 0.5 with 0.28."""
NEAR = 0.8
"""Estimated Jaccard index from which on a text is a near-copy; the estimate's deviation there is 0.036."""
SHINGLE = 5
"""Words of a shingle."""
_PAIRS_AT_ONCE = 50_000
_WORD = re.compile(r"\w+")


def signature(text: str) -> NDArray[np.uint32]:
    """`[PERMUTATIONS] uint32`: the least hash of the text's shingles under each permutation.

    Two texts agree in as large a share of values as their sets of shingles do (Jaccard index). Case and
    punctuation are left out; a text of less than five words is one shingle.
    """
    hashed = _mixed(np.unique(_shingles(_WORD.findall(text.lower()))))
    permuted = (hashed[:, None] * _FACTORS + _TERMS) >> np.uint64(32)
    least: NDArray[np.uint64] = np.min(permuted, axis=0)
    return least.astype(np.uint32)


def near_copies(signatures: NDArray[np.uint32], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """`[copies, 2] int64`: for each text that is a near-copy of one of lower rank, both rows, copies ascending.

    The original is the one of lowest rank that was compared. In each band a text is compared with the first
    and with the one before it among those that agree there: enough for a chain of copies to leave one text.
    `ranks` are distinct; the result does not depend on the order of rows.
    """
    by_rank = np.argsort(ranks, kind="stable")
    found = [_near(signatures, by_rank[_candidates(signatures, by_rank, band)]) for band in range(BANDS)]
    pairs, rank = np.concatenate(found), np.asarray(ranks)
    pairs = pairs[np.lexsort((rank[pairs[:, 1]], pairs[:, 0]))]
    first = np.ones(len(pairs), bool)
    first[1:] = pairs[1:, 0] != pairs[:-1, 0]
    return pairs[first]


def _candidates(signatures: NDArray[np.uint32], by_rank: NDArray[np.int64], band: int) -> NDArray[np.int64]:
    """`[pairs, 2]` (later, earlier), places in `by_rank`: each with the first that agrees, and with the last."""
    width = PERMUTATIONS // BANDS
    keys = _folded(signatures[:, band * width : (band + 1) * width].T)[by_rank]
    order = np.argsort(keys, kind="stable")
    same = np.r_[False, keys[order[1:]] == keys[order[:-1]]]
    starts = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    later = np.flatnonzero(same)
    earlier = np.r_[order[starts[later]], order[later - 1]]
    return np.stack((np.tile(order[later], 2), earlier), axis=1)


def _near(signatures: NDArray[np.uint32], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those whose signatures agree in a large enough share of values."""
    chunks = [pairs[at : at + _PAIRS_AT_ONCE] for at in range(0, len(pairs), _PAIRS_AT_ONCE)]
    kept = [each[(signatures[each[:, 0]] == signatures[each[:, 1]]).mean(axis=1) >= NEAR] for each in chunks]
    return np.concatenate([np.empty((0, 2), np.int64), *kept])


def _shingles(words: Sequence[str]) -> NDArray[np.uint64]:
    """`[shingles] uint64`, one hash a run of five words."""
    hashed = np.fromiter(map(_hash, words), np.uint64, len(words))
    if len(hashed) < SHINGLE:
        hashed = np.r_[hashed, np.zeros(SHINGLE - len(hashed), np.uint64)]
    last = len(hashed) - SHINGLE + 1
    return _folded(hashed[at : at + last] for at in range(SHINGLE))


def _folded(columns: Iterable[NDArray[np.unsignedinteger]]) -> NDArray[np.uint64]:
    """`[rows] uint64`: one hash a row of hashes, their order counted."""
    weighed = (column * factor for column, factor in zip(columns, _FACTORS, strict=False))
    return _mixed(reduce(np.add, weighed))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=1 << 17)
def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


_DRAWN = _mixed(np.arange(1, 2 * PERMUTATIONS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
"""SplitMix64 from seed 0, by hand: numpy keeps its own streams only within a version."""
_FACTORS, _TERMS = _DRAWN[:PERMUTATIONS] | np.uint64(1), _DRAWN[PERMUTATIONS:]
