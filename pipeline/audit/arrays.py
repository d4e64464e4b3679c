"""An npy member read without evaluating anything in it (NumPy's `lib.format`, version 1.0)."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PREAMBLE = b"\x93NUMPY\x01\x00"
_INFINITY, _MINUS_INFINITY = 0x7C00, 0xFC00
"""Of float16; NaNs lie above, of either sign."""
_HEADER = re.compile(
    rb"\{'descr': '([<|][a-z]\d)', 'fortran_order': False, 'shape': \((\d{1,18}(?:, \d{1,18})*),?\), \} *\n"
)


def parse_npy(payload: bytes | memoryview) -> NDArray[Any]:
    """The array, read-only, over `payload`'s own memory.

    Raises ValueError for anything but a C-ordered array of plain numbers whose shape accounts for every byte.
    """
    begin = bytes(payload[:10])
    if not begin.startswith(_PREAMBLE):
        raise ValueError(f"begins with {begin[:8]!r}, an npy file of version 1.0 with {_PREAMBLE!r}")
    start = 10 + int.from_bytes(begin[8:], "little")
    header = bytes(payload[10:start])
    match = _HEADER.fullmatch(header)
    if match is None:
        raise ValueError(f"header {header[:200]!r} is not one of a plain array in C order")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(length) for length in match[2].split(b", "))
    # `frombuffer` and `reshape` refuse a shape that does not account for every byte.
    return np.frombuffer(payload, dtype=dtype, offset=start).reshape(shape)


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no value is infinite or NaN.

    Of float16 told by the bits, in two passes without a copy, since NumPy's `isfinite` takes longer for it than
    SHA-256 does: seen as int16 those of no sign that are not finite are the greatest, seen as uint16 those of
    negative sign.
    """
    if array.dtype != np.float16 or not array.size:
        return bool(np.isfinite(array).all())
    positive, negative = int(array.view(np.int16).max()), int(array.view(np.uint16).max())
    return positive < _INFINITY and negative < _MINUS_INFINITY
