"""Frames as JPEG pictures in one row: written by decode; read by the shards' reader, the audit and libav alike."""

import io

import av
import numpy as np
import pytest
from decode_films import PREPROCESSING, SPEC, render, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.audit.pictures import picture_sizes
from pipeline.decode.mjpeg import to_mjpeg
from pipeline.decode.stage import Decode
from pipeline.shards.mjpeg import MjpegError, from_mjpeg, split_pictures
from schemas.recipe import ShardsSpec
from schemas.sample import Category

CONVERSATIONAL = sample("film.mp4").category


def smooth(clips, frames, side, seed):
    """Pictures that JPEG can hold: slow waves of colour."""
    phase = np.random.default_rng(seed).uniform(0, 6, (clips, frames, 1, 1, 3))
    x = np.linspace(0, 3, side)
    wave = np.sin(x[:, None, None] + phase) + np.cos(x[None, :, None] * 2 + phase)
    return (127 + 60 * wave).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.sampled_from([14, 56, 65]), st.integers(1, 100), st.integers(0, 2**32),
    st.booleans(),
)  # fmt: skip
def test_every_reader_finds_the_pictures_that_were_written(clips, frames, side, quality, seed, noisy):
    pixels = smooth(clips, frames, side, seed)
    if noisy:
        pixels = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
    data = to_mjpeg(pixels, quality).tobytes()
    one_by_one = []
    for picture in pixels.reshape(-1, side, side, 3):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
        one_by_one.append(buffer.getvalue())
    assert list(split_pictures(data)) == one_by_one
    back = from_mjpeg(data, [frames] * clips)
    assert (back.shape, back.dtype) == (pixels.shape, np.uint8)
    np.testing.assert_array_equal(
        back.reshape(-1, side, side, 3), [np.asarray(Image.open(io.BytesIO(each))) for each in one_by_one]
    )
    assert picture_sizes(data) == [(side, side)] * (clips * frames)
    with av.open(io.BytesIO(data), format="mjpeg") as film:
        shown = list(film.decode(video=0))
    assert [(frame.width, frame.height, frame.format.name) for frame in shown] == [(side, side, "yuvj444p")] * (
        clips * frames
    )


def test_little_is_lost_at_the_quality_that_recipes_take():
    pixels = smooth(2, 4, 64, 0)
    back = from_mjpeg(to_mjpeg(pixels, ShardsSpec().frames_quality).tobytes(), [4, 4])
    assert np.abs(back.astype(int) - pixels).mean() < 1
    rough = from_mjpeg(to_mjpeg(pixels, 5).tobytes(), [4, 4])
    assert np.abs(rough.astype(int) - pixels).mean() > 2


def test_no_byte_is_no_picture():
    assert from_mjpeg(b"", [4, 4]).shape == (0, 0, 0, 0, 3)
    assert picture_sizes(b"") == []


DATA = to_mjpeg(smooth(1, 2, 56, 0), 90).tobytes()


@pytest.mark.parametrize(
    "data", [DATA[:-2], DATA[:-400], DATA[1:], b"no picture", DATA + b"\xff\xd8\xff", DATA[:40], DATA + DATA[:700]]
)
def test_damaged_pictures_are_refused_by_reader_and_audit(data):
    with pytest.raises(MjpegError):
        from_mjpeg(data, [2])
    with pytest.raises(ValueError, match="picture"):
        picture_sizes(data)


@pytest.mark.parametrize("frames", [[1], [3], [1, 1, 1], []])
def test_another_number_of_pictures_than_of_frames_is_refused(frames):
    with pytest.raises(MjpegError, match="2 pictures"):
        from_mjpeg(DATA, frames)


@pytest.mark.parametrize("wanted", [True, False])
def test_decode_compresses_the_frames_that_shards_carry_and_no_others(tmp_path, wanted):
    render(tmp_path / "film.mp4", 50)
    category = CONVERSATIONAL if wanted else next(c for c in Category if c != CONVERSATIONAL)
    spec = ShardsSpec(frames_for=(category,), frames_codec="mjpeg", frames_quality=90)
    stage = Decode(SPEC, PREPROCESSING, {"s": str(tmp_path)}, spec)
    stage.setup()
    (frames,) = stage.process([sample("film.mp4")])
    stage.close()
    assert frames.meta.kept is wanted
    assert frames.mjpeg.keys() == (PREPROCESSING.keys() if wanted else set())
    for name, data in frames.mjpeg.items():
        np.testing.assert_array_equal(data, to_mjpeg(frames.pixels[name], 90))
