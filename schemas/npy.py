"""An array as a file of the npy format, version 1.0: a header, then the array's own memory."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONGEST_HEADER = 10 + 65_535


def npy_header(array: NDArray[Any]) -> bytes:
    """What stands before the numbers, as `numpy.save` writes it: C order, little endian, whatever `array` is in."""
    return _header(array.dtype.newbyteorder("<").str, array.shape)


@lru_cache(1024)
def _header(descr: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def npy_body(array: NDArray[Any]) -> memoryview:
    """The numbers as bytes; the array's own memory where it lies as the header says, else a copy."""
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data


def from_npy(data: Any) -> NDArray[Any]:
    """The array of an npy file, over the memory of the buffer `data` where that is aligned for it. Read-only."""
    dtype, shape, start = _parsed(data)
    array = np.frombuffer(data, np.uint8, offset=start).view(dtype).reshape(shape)
    array.flags.writeable = False
    return array if array.flags.aligned else array.copy()


def npy_outline(header: Any) -> NDArray[Any]:
    """An array of the header's shape and dtype that holds nothing: every number is the same zero. Read-only."""
    dtype, shape, _ = _parsed(header)
    return np.broadcast_to(np.zeros((), dtype), shape)


def _parsed(data: Any) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """dtype, shape, and where the numbers begin."""
    view = memoryview(data)
    length = 10 + int.from_bytes(view[8:10], "little")
    return (*_parsed_header(bytes(view[: min(length, _LONGEST_HEADER)])), length)


@lru_cache(1024)
def _parsed_header(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    stream = io.BytesIO(header)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not of npy version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or fortran:
        raise ValueError(f"{dtype} with {fortran = }: only plain numbers in C order are stored")
    return dtype, shape
