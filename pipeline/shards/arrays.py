"""Arrays of a stored sample, over the bytes of its members: no copy, no pickle."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.shards.lookup import IndexRow, ShardError
from pipeline.shards.mjpeg import MjpegError, from_mjpeg
from pipeline.shards.payloads import Payloads, where
from schemas.arrays import restored

Shape = tuple[int, ...]


@lru_cache(256)
def suffixes(members: tuple[str, ...], encoders: tuple[str, ...], frames: bool) -> tuple[str, ...]:
    """The members that hold these encoders' features, and frames."""
    found: list[str] = []
    for name in encoders:
        found += [f"{name}.npy"] + [s for s in (f"{name}.scale.npy",) if s in members]
        found += [frames_suffix(members, name)] if frames else []
    return tuple(found)


def frames_suffix(members: Sequence[str], encoder: str) -> str:
    """The member that holds the frames of an encoder."""
    mjpeg = f"{encoder}.frames.mjpeg"
    return mjpeg if mjpeg in members else f"{encoder}.frames.npy"


def features(row: IndexRow, payloads: Payloads, encoder: str) -> NDArray[np.float16]:
    """`[clips, time, height, width, channels] float16` of one encoder, restored where it is stored as int8.

    Raises ShardError where a member is no such array.
    """
    scale = payloads.get(f"{encoder}.scale.npy")
    if scale is None:
        return _array(row, payloads[f"{encoder}.npy"], f"{encoder}.npy", np.float16)
    codes = _array(row, payloads[f"{encoder}.npy"], f"{encoder}.npy", np.int8)
    scales = _array(row, scale, f"{encoder}.scale.npy", np.float16)
    return restored(encoder, {encoder: codes, f"{encoder}.scale": scales})


def pictures(
    row: IndexRow, payloads: Payloads, encoder: str, frames: Callable[[], Sequence[int]]
) -> NDArray[np.uint8]:
    """`[clips, frames, height, width, 3] uint8` of one encoder; `frames` tells how many each clip has.

    Raises ShardError where the member is no such array, or not so many pictures.
    """
    suffix = frames_suffix(row.members, encoder)
    if suffix.endswith(".npy"):
        return _array(row, payloads[suffix], suffix, np.uint8)
    try:
        return from_mjpeg(bytes(payloads[suffix]), frames())
    except MjpegError as error:
        raise ShardError(f"{where(row)}: {suffix} cannot be read: {error}") from error


def _array(row: IndexRow, payload: memoryview, suffix: str, dtype: type) -> NDArray[Any]:
    try:
        array = npy(payload)
    except ValueError as error:
        raise ShardError(f"{where(row)}: {suffix} is not a plain npy file: {error}") from error
    if array.dtype != dtype or array.ndim != 5:
        raise ShardError(f"{where(row)}: {suffix} is {array.dtype} {array.shape}, not 5-D {np.dtype(dtype)}")
    return array


def npy(data: memoryview) -> NDArray[Any]:
    """The array of an npy file of version 1.0 (`numpy.lib.format`), sharing memory with `data`."""
    start = 10 + int.from_bytes(data[8:10], "little")
    shape, dtype, count = _header(bytes(data[:start]))
    if len(data) - start != count * dtype.itemsize:
        raise ValueError(f"{len(data) - start} bytes of data for {shape} {dtype}")
    return np.frombuffer(data, dtype=dtype, count=count, offset=start).reshape(shape)


@lru_cache(1024)
def _header(data: bytes) -> tuple[Shape, np.dtype[Any], int]:
    """Shape, type and how many numbers. Kept, because a mixture has few and NumPy parses them as Python."""
    stream = BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not of npy version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or fortran:
        raise ValueError(f"{dtype} with {fortran = }: only plain numbers in C order are stored")
    return shape, dtype, int(np.prod(shape, dtype=np.int64))
