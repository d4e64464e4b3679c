"""Stored features: pooled and quantised, restored, and the loss told."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from encoder_specs import sample, spec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.features.codec import is_finite, pooled, quantised, storage_loss, stored, windows
from pipeline.features.stage import Encode
from schemas.arrays import restored
from schemas.encoders import StoreSpec


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


@pytest.mark.parametrize(("side", "pool"), [(27, 2), (27, 3), (16, 2), (16, 5), (4, 4), (5, 27)])
def test_pooling_is_pytorchs_adaptive_average(side, pool):
    tokens = noise(2, 3, side, side, 8)
    count = -(-side // pool)
    channels_first = torch.tensor(tokens.astype(np.float32)).permute(0, 1, 4, 2, 3).flatten(0, 1)
    expected = F.adaptive_avg_pool2d(channels_first, count).unflatten(0, (2, 3)).permute(0, 1, 3, 4, 2).numpy()
    np.testing.assert_allclose(pooled(tokens, pool).astype(np.float32), expected, atol=2e-3)


@given(side=st.integers(1, 40), pool=st.integers(1, 40))
def test_windows_cover_the_side_without_a_gap(side, pool):
    cut = windows(side, pool)
    assert (cut[0][0], cut[-1][1], len(cut)) == (0, side, -(-side // pool))
    assert all(begin < end for begin, end in cut)
    assert all(before[1] >= after[0] > before[0] for before, after in pairwise(cut))


@given(hnp.arrays(np.float16, (1, 1, 2, 2, 5), elements=st.floats(-60_000, 60_000, width=16)))
def test_a_restored_value_is_off_by_half_a_step_at_most(tokens):
    codes, scale = quantised(tokens)
    assert codes.dtype == np.int8
    assert scale.shape == (1, 1, 2, 2, 1)
    back = restored("x", {"x": codes, "x.scale": scale}).astype(np.float64)
    # Half a step; where the scale was rounded down, the greatest value is cut by up to 127 times that rounding; the
    # result is rounded to float16 again.
    allowed = 0.5 * scale + 127 * np.spacing(scale) / 2 + np.spacing(np.abs(tokens)) + np.float64(2**-24) * 128
    assert (np.abs(back - tokens) <= allowed.astype(np.float64)).all()


@given(hnp.arrays(np.uint16, (1, 1, 1, 2, 4)))
def test_finite_is_what_numpy_calls_finite(bits):
    tokens = bits.view(np.float16)
    assert is_finite(tokens) == np.isfinite(tokens).all()
    assert is_finite(tokens[:0])


def test_restored_codes_quantise_to_themselves():
    codes, scale = quantised(noise(2, 4, 3, 3, 64))
    again, scale_again = quantised(restored("x", {"x": codes, "x.scale": scale}))
    assert np.abs(again.astype(int) - codes).max() <= 1
    np.testing.assert_allclose(scale_again.astype(float), scale.astype(float), rtol=2e-3)


def test_the_loss_is_nothing_where_nothing_is_lost_and_grows_with_what_is():
    tokens = noise(2, 4, 6, 6, 32)
    losses = [
        storage_loss("x", tokens, stored("x", tokens, StoreSpec(pool=pool, dtype=dtype)), pool)
        for pool, dtype in ((1, "float16"), (1, "int8"), (2, "int8"), (6, "int8"))
    ]
    assert (losses[0].cosine, losses[0].relative_error) == (pytest.approx(1, abs=1e-4), 0)
    assert 0.999 < losses[1].cosine < 1
    assert 0.001 < losses[1].relative_error < 0.02
    cosines, errors = [loss.cosine for loss in losses], [loss.relative_error for loss in losses]
    assert cosines == sorted(cosines, reverse=True)
    assert errors == sorted(errors)
    assert losses[2].cosine == pytest.approx(0.5, abs=0.05), "noise: a mean of four is half like each of them"
    assert losses[2].relative_error == pytest.approx(0.75**0.5, abs=0.05)


def test_features_that_are_alike_within_a_window_lose_nothing_by_pooling():
    tokens = np.repeat(np.repeat(noise(1, 2, 3, 3, 16), 2, axis=2), 2, axis=3)
    loss = storage_loss("x", tokens, stored("x", tokens, StoreSpec(pool=2)), 2)
    assert (loss.cosine, loss.relative_error) == (pytest.approx(1, abs=1e-4), pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize(
    "store", [StoreSpec(), StoreSpec(dtype="int8"), StoreSpec(pool=2), StoreSpec(pool=3, dtype="int8")]
)
def test_the_stage_gives_the_columns_that_provenance_names(store):
    encode = Encode({"siglip": spec("siglip", store=store), "internvideo2": spec("internvideo2")})
    encode.setup()
    text, video = encode.process([sample("text", 0, 4), sample("video", 3, 4)])
    encode.close()
    siglip, _ = video.meta.encoders
    assert list(video.arrays) == [*siglip.arrays, "internvideo2"]
    side = -(-4 // store.pool)
    assert siglip.grid == (4, side, side)
    assert video.arrays["siglip"].shape == (3, 4, side, side, 64)
    assert {column: array.dtype for column, array in text.arrays.items()} == {
        column: array.dtype for column, array in video.arrays.items()
    }
    assert text.arrays["siglip"].shape == (0, 4, side, side, 64)
    assert list(video.meta.storage_loss) == ([] if store.is_lossless else ["siglip"])
    assert not text.meta.storage_loss
