"""How features are stored: as they are, pooled, or as int8 with a scale a token; and what that loses."""

from collections.abc import Mapping
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import StorageLoss, restored
from schemas.encoders import StoreSpec

Tokens = NDArray[np.float16]
"""`[clips, t, h, w, D]`."""

INT8 = 127
"""Greatest magnitude: -128 is not used, so that codes are symmetric."""


def stored(name: str, tokens: Tokens, spec: StoreSpec) -> Mapping[str, NDArray[np.generic]]:
    """The columns of an encoder, by name: `{name}`, and with int8 `{name}.scale`.

    Pooled, `[clips, t, ceil(h / pool), ceil(w / pool), D]`; the scale has one channel.
    """
    kept = pooled(tokens, spec.pool)
    if spec.dtype == "float16":
        return {name: kept}
    codes, scale = quantised(kept)
    return {name: codes, f"{name}.scale": scale}


def is_finite(tokens: Tokens) -> bool:
    """Whether no value is infinite or NaN, told by the exponents' bits: NumPy's `isfinite` is slow on float16."""
    return bool(((tokens.view(np.uint16) & 0x7FFF) < 0x7C00).all())


def pooled(tokens: Tokens, pool: int) -> Tokens:
    """Means over windows of the grid, as PyTorch's `adaptive_avg_pool2d` cuts them: some tokens lie in two.

    Sums are taken in float32.
    """
    if pool == 1:
        return tokens
    rows = _mean(tokens.astype(np.float32), pool, axis=2)
    return _mean(rows, pool, axis=3).astype(np.float16)


def windows(side: int, pool: int) -> list[tuple[int, int]]:
    """[begin, end) of each of ceil(side / pool) windows: floor(i * side / n) to ceil((i + 1) * side / n)."""
    count = -(-side // pool)
    return [(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]


def quantised(tokens: Tokens) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Codes and scales: a token's greatest channel becomes 127, so a value is off by at most half a scale.

    The scale is rounded to float16 first, so what is restored from it is what was meant. A token too small for a
    scale becomes zero.
    """
    values = tokens.astype(np.float32)
    greatest = np.abs(values).max(axis=-1, keepdims=True, initial=0)
    scale = (greatest / INT8).astype(np.float16)
    steps = np.divide(values, scale.astype(np.float32), out=np.zeros_like(values), where=scale > 0)
    return np.rint(steps).clip(-INT8, INT8).astype(np.int8), scale


def storage_loss(name: str, tokens: Tokens, columns: Mapping[str, NDArray[np.generic]], pool: int) -> StorageLoss:
    """Of what is restored from `columns`, each native token held against the stored one whose window it is in.

    There must be clips.
    """
    places = [_window_of(side, pool) for side in tokens.shape[2:4]]
    cosines, lost, whole = [], 0.0, 0.0
    for native, kept in zip(
        tokens, restored(name, columns), strict=True
    ):  # clip by clip: float32 takes much memory
        true = native.astype(np.float32)
        back = kept.astype(np.float32)[:, places[0]][:, :, places[1]]
        norms = np.linalg.norm(true, axis=-1) * np.linalg.norm(back, axis=-1)
        cosine = np.divide((true * back).sum(-1), norms, out=np.ones_like(norms), where=norms > 0)
        cosines.append(float(cosine.mean()))
        lost += float(np.square(true - back).sum(dtype=np.float64))
        whole += float(np.square(true).sum(dtype=np.float64))
    relative = (lost / whole) ** 0.5 if whole else 0.0
    return StorageLoss(cosine=round(fmean(cosines), 6), relative_error=round(relative, 6))


def _mean(values: NDArray[np.float32], pool: int, axis: int) -> NDArray[np.float32]:
    parts = [
        np.take(values, range(begin, end), axis=axis).mean(axis=axis, keepdims=True)
        for begin, end in windows(values.shape[axis], pool)
    ]
    return np.concatenate(parts, axis=axis)


def _window_of(side: int, pool: int) -> list[int]:
    """For each place along a side, the last window that it is in."""
    cut = windows(side, pool)
    return [max(i for i, (begin, end) in enumerate(cut) if begin <= place < end) for place in range(side)]
