"""Memory is used again when nobody holds it, and never before."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.shards.buffers import FREE_BYTES, SMALL_BYTES, buffer

SIZES = [0, 1, SMALL_BYTES, SMALL_BYTES + 1, 2 * SMALL_BYTES, 300_000, 2**20, FREE_BYTES, FREE_BYTES + 1]


@pytest.mark.parametrize("size", SIZES)
def test_a_buffer_has_the_size_asked_for_and_can_be_written(size):
    view = buffer(size)
    assert len(view) == size
    view[:] = b"x" * size
    assert bytes(view[-1:]) == b"x" * min(size, 1)


@pytest.mark.parametrize("hold", [lambda v: v[10:90_000], lambda v: np.frombuffer(v, np.uint16)[5:].reshape(-1, 1)])
def test_what_is_held_through_any_view_is_not_handed_out_again(hold):
    held = [hold(buffer(100_000)) for _ in range(8)]
    for number, view in enumerate(held):
        view[:] = np.full_like(view, number) if isinstance(view, np.ndarray) else bytes([number]) * len(view)
    for _ in range(20):
        buffer(100_000)[:] = b"\xff" * 100_000
    for number, view in enumerate(held):
        assert set(np.asarray(view).ravel().tolist()) == {number}


def test_what_nobody_holds_is_handed_out_again(monkeypatch):
    first = buffer(200_000)
    where = np.frombuffer(first, np.uint8).ctypes.data
    del first
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("new memory"))
    assert np.frombuffer(buffer(150_000), np.uint8).ctypes.data == where  # of the same power of two


def test_threads_never_get_the_same_memory():
    def use(seed):
        rng = random.Random(seed)
        for _ in range(300):
            size, mark = rng.randrange(70_000, 200_000), rng.randrange(256)
            view = buffer(size)
            view[:] = bytes([mark]) * size
            if bytes(view) != bytes([mark]) * size:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(16)))
