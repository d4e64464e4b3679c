"""Memory for reads, used again once nobody holds it.

Memory that is new to a process costs more than the copy into it: the kernel clears and maps it page by page, and
the C library gives blocks of this size back to the kernel when they are freed.
"""

import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

SMALL_BYTES = 64 * 2**10
"""Blocks up to here, which the C library keeps itself, are made anew."""
FREE_BYTES = 32 * 2**20
"""Kept of each size, which are powers of two; a larger block is not kept."""

_free: dict[int, deque[NDArray[np.uint8]]] = {
    1 << bits: deque(maxlen=FREE_BYTES >> bits) for bits in range(SMALL_BYTES.bit_length(), FREE_BYTES.bit_length())
}


def buffer(size: int) -> memoryview:
    """`size` writable bytes of any content; the caller's own, and whatever is made over them. For any thread."""
    capacity = 1 << (size - 1).bit_length() if size else 0
    if capacity not in _free:
        return np.empty(size, np.uint8).data
    try:
        block = _free[capacity].pop()
    except IndexError:
        block = np.empty(capacity, np.uint8)
    # All views of a memoryview hold the array it is of, but views of an array hold the one at the bottom.
    lent = block[:size]
    weakref.finalize(lent, _free[capacity].append, block).atexit = False
    return lent.data
