"""Data with arrays crosses whole, in one piece of memory that lives as long as one of its arrays."""

import gc

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays, boolean_dtypes, floating_dtypes, integer_dtypes

from pipeline.shards.packed import ALIGNED_BYTES, pack, unpack

numbers = st.one_of(boolean_dtypes(), integer_dtypes(), floating_dtypes())
some_arrays = arrays(numbers, array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=9))


@given(st.dictionaries(st.text(max_size=9), st.lists(st.one_of(some_arrays, st.integers(), st.text()), max_size=5)))
def test_what_is_unpacked_is_what_was_packed(data):
    found = unpack(pack(data))
    assert list(found) == list(data)
    for name, values in data.items():
        for value, got in zip(values, found[name], strict=True):
            np.testing.assert_equal(got, value)
            assert type(got) is type(value)
            if isinstance(value, np.ndarray):
                assert (got.dtype, got.shape) == (value.dtype, value.shape)


def test_arrays_are_writable_aligned_apart_and_outlive_the_rest():
    data = [np.full(shape, n, np.float16) for n, shape in enumerate([(3,), (0, 7), (5, 5), (1000,)])]
    packed = pack(data)
    assert packed.memory.is_shared()
    assert packed.memory.untyped_storage().nbytes() == sum(-(-each.nbytes // ALIGNED_BYTES) for each in data) * 64
    found = unpack(packed)
    assert all(each.ctypes.data % ALIGNED_BYTES == 0 for each in found if each.size)
    last = found[-1]
    found[2][:] = 9
    assert (found[0] == 0).all()
    del packed, found
    gc.collect()
    last += 1
    assert (last == 4).all()


def test_an_array_that_is_not_contiguous_crosses_too():
    data = np.arange(60).reshape(5, 12)[:, ::3]
    np.testing.assert_array_equal(unpack(pack(data)), data)


@pytest.mark.parametrize("data", [torch.arange(9.0), torch.zeros(0)])
def test_tensors_cross_as_well(data):
    assert torch.equal(unpack(pack(data)), data)
