"""Data with arrays on its way to another process: all arrays in one piece of shared memory, the rest pickled.

A tensor of its own for each array costs a file descriptor, a mapping and a message each, which is more than to copy
a small array; pickling them copies each several times, and through a pipe.
"""

import pickle
from dataclasses import dataclass
from typing import Any

import torch

ALIGNED_BYTES = 64
"""Where an array may begin: at a cache line, as NumPy's own do nearly."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What `pack` made. Torch's queues send the tensor by shared memory."""

    pickled: bytes
    memory: torch.Tensor
    """`[bytes] uint8`, shared."""
    sizes: tuple[int, ...]
    """Of the arrays, bytes, in order; each begins at the next multiple of ALIGNED_BYTES."""


def pack(data: Any) -> Packed:
    """`data`, with one copy of each contiguous array in it."""
    arrays: list[memoryview] = []
    pickled = pickle.dumps(data, protocol=5, buffer_callback=lambda each: arrays.append(each.raw()))
    sizes = tuple(array.nbytes for array in arrays)
    # Born shared: `share_memory_` would copy what is not written yet.
    storage: Any = torch.UntypedStorage
    memory = torch.empty(0, dtype=torch.uint8).set_(storage._new_shared(sum(map(_aligned, sizes)), device="cpu"))
    view = memory.numpy().data
    start = 0
    for array, size in zip(arrays, sizes, strict=True):
        view[start : start + size] = array
        start += _aligned(size)
    return Packed(pickled, memory, sizes)


def unpack(packed: Packed) -> Any:
    """The data again; its arrays lie in the shared memory, writable, and keep it as long as one of them lives."""
    view, arrays, start = packed.memory.numpy().data, [], 0
    for size in packed.sizes:
        arrays.append(view[start : start + size])
        start += _aligned(size)
    return pickle.loads(packed.pickled, buffers=arrays)  # noqa: S301 - of our own worker


def _aligned(size: int) -> int:
    return -(-size // ALIGNED_BYTES) * ALIGNED_BYTES
