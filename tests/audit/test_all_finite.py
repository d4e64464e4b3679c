"""Finite or not, told by the bits, against NumPy's `isfinite`."""

import numpy as np
import pytest

from pipeline.audit.arrays import all_finite

EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def test_every_float16_is_told_alone_and_among_others():
    others = np.array([-65504, -1, 0, 1, 65504], np.float16)
    for value in EVERY:
        expected = bool(np.isfinite(value))
        assert all_finite(np.array([value], np.float16)) == expected, value
        assert all_finite(np.append(others, value)) == expected, value


def test_all_finite_ones_together_are_finite():
    assert all_finite(EVERY[np.isfinite(EVERY)])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_any_float_is_told(dtype):
    array = np.zeros((2, 3), dtype)
    assert all_finite(array)
    assert all_finite(array[:0])
    array[1, 1] = np.nan
    assert not all_finite(array)
