"""Laws of colour, display geometry and squares."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from decode_films import INTERNVIDEO2, SIGLIP
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.decode.picture import Picture, displayed, orient, square

MATRICES = {  # kr, kb of ITU-R BT.709 and BT.601
    709: (0.2126, 0.0722),
    601: (0.299, 0.114),
}


def rgb_of(y, u, v, standard, full):
    """ITU-R BT.709 / BT.601, section on digital representation, solved for R, G, B in 0..255."""
    kr, kb = MATRICES[standard]
    y, u, v = (y / 255, (u - 128) / 255, (v - 128) / 255) if full else (
        (y - 16) / 219, (u - 128) / 224, (v - 128) / 224,
    )  # fmt: skip
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return [255 * x for x in (red, (y - kr * red - kb * blue) / (1 - kr - kb), blue)]


def flat_frame(width, height, yuv, colorspace, color_range):
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, value in zip(frame.planes, yuv, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


@pytest.mark.parametrize(
    ("size", "colorspace", "color_range", "standard"),
    [
        ((64, 48), 1, 1, 709),
        ((64, 48), 5, 1, 601),
        ((64, 48), 6, 2, 601),
        ((64, 48), 2, 0, 601),  # says nothing and is small
        ((64, 720), 2, 0, 709),  # says nothing and is large
        ((65, 47), 1, 2, 709),
    ],
)
def test_colour_follows_the_streams_matrix_and_range(size, colorspace, color_range, standard):
    yuv = (120, 90, 170)
    frame = flat_frame(*size, yuv, colorspace, color_range)
    pixels = np.asarray(displayed(frame, Fraction(1), VideoReformatter()).image)
    assert pixels.shape == (size[1], size[0], 3)
    assert np.abs(pixels - np.array(rgb_of(*yuv, standard, full=color_range == 2))).max() <= 1


def test_alpha_is_kept_for_the_pad_colour():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:] = 255
    frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
    squared = square(displayed(frame, Fraction(1), VideoReformatter()), SIGLIP)
    assert (squared[0, 0] == 127).all()
    assert (squared[0, -1] == 255).all()


@pytest.mark.parametrize("quarter", [False, True])
@pytest.mark.parametrize("sign_x", [-1, 1])
@pytest.mark.parametrize("sign_y", [-1, 1])
def test_each_stored_pixel_lands_where_the_display_matrix_sends_it(quarter, sign_x, sign_y):
    stored = np.arange(3 * 5, dtype=np.uint8).reshape(3, 5, 1)
    a, b, c, d = (0, sign_y, sign_x, 0) if quarter else (sign_x, 0, 0, sign_y)
    shown = orient(stored, (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30))
    points = {(a * x + c * y, b * x + d * y): stored[y, x, 0] for y in range(3) for x in range(5)}
    left, top = min(x for x, _ in points), min(y for _, y in points)
    assert {(x - left, y - top): value for (x, y), value in points.items()} == {
        (x, y): shown[y, x, 0] for y in range(shown.shape[0]) for x in range(shown.shape[1])
    }


def expand_then_resize(pixels, preprocessing):
    """Apollo's order, written out with numpy: a square of the mean colour, the frame centred, one resize."""
    height, width, _ = pixels.shape
    side = max(height, width)
    canvas = np.full((side, side, 3), preprocessing.pad_colour, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    filter_ = getattr(Image.Resampling, preprocessing.interpolation.upper())
    return np.asarray(Image.fromarray(canvas).resize((preprocessing.size, preprocessing.size), filter_))


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([SIGLIP, INTERNVIDEO2]), st.integers(0, 2**31))
def test_a_square_is_the_padded_frame_resized_once(width, height, preprocessing, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(
        square(Picture(Image.fromarray(pixels)), preprocessing), expand_then_resize(pixels, preprocessing)
    )


@pytest.mark.parametrize(
    ("stored", "aspect", "padded"),
    [((40, 40), Fraction(1), False), ((20, 40), Fraction(2), False), ((40, 20), Fraction(1, 2), False),
     ((40, 40), Fraction(2), True), ((20, 40), Fraction(1), True)],
)  # fmt: skip
def test_pixels_that_are_not_square_fill_the_square_as_displayed(stored, aspect, padded):
    picture = Picture(Image.new("RGB", stored, (255, 255, 255)), aspect)
    width, height = picture.displayed_size
    assert (width == height) is not padded
    assert ((square(picture, SIGLIP) == 127).any()) is np.bool_(padded)
    if padded:
        shown = (square(picture, SIGLIP) == 255).all(axis=-1)
        measured = shown.any(axis=0).sum(), shown.any(axis=1).sum()
        assert measured[0] / measured[1] == pytest.approx(width / height, rel=0.1)
