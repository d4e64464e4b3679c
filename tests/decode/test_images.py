"""Laws of pictures: upright, 8-bit, bounded, and only of the formats listed."""

import io
import zlib

import numpy as np
import pytest
from decode_films import SIGLIP, SPEC
from PIL import Image

from pipeline.decode.images import image_size, load_image
from pipeline.decode.media import BadMedia
from schemas.media import DecodeSpec
from schemas.rejection import Reason


def saved(image, format_="PNG", **options):
    file = io.BytesIO()
    image.save(file, format_, **options)
    return io.BufferedReader(io.BytesIO(file.getvalue()))


def loaded(image, format_="PNG", **options):
    return load_image(saved(image, format_, **options), SPEC).image


GRADIENT = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("format_", ["PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_rgb_comes_back_bit_for_bit(format_):
    pixels = np.stack([GRADIENT, GRADIENT.T, 255 - GRADIENT], axis=-1)
    options = {"lossless": True} if format_ == "WEBP" else {}
    np.testing.assert_array_equal(np.asarray(loaded(Image.fromarray(pixels), format_, **options)), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_told_by_the_headers_alone(orientation):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255  # stored top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = loaded(Image.fromarray(pixels), "PNG", exif=exif)
    assert image.size == image_size(saved(Image.fromarray(pixels), "PNG", exif=exif), SPEC)
    bright = np.argwhere(np.asarray(image)[..., 0] == 255)
    corner = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    top, left = bright.mean(axis=0) < np.array(image.size[::-1]) / 2
    assert corner == ("t" if top else "b") + ("l" if left else "r")


def test_grey_palette_cmyk_and_one_bit_become_rgb():
    grey = Image.fromarray(GRADIENT)
    for image in (grey, grey.convert("P"), grey.point(lambda v: 255 * (v > 99)).convert("1")):
        assert loaded(image).mode == "RGB"
    assert loaded(grey.convert("RGB").convert("CMYK"), "TIFF").mode == "RGB"
    np.testing.assert_array_equal(np.asarray(loaded(grey)), np.stack([GRADIENT] * 3, axis=-1))


def test_sixteen_bits_are_scaled_not_clipped():
    deep = np.array([[0, 255, 257, 32768, 65535]], np.uint16)
    for pixels, format_ in ((deep, "PNG"), (deep, "TIFF"), (deep.astype(np.int32), "TIFF")):
        assert np.asarray(loaded(Image.fromarray(pixels), format_))[0, :, 0].tolist() == [0, 1, 1, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_the_pad_colour(mode):
    image = Image.new("RGBA", (8, 8), (255, 255, 255, 0)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
    picture = load_image(saved(image, "PNG", **options), SPEC)
    assert (picture.square(SIGLIP) == 127).all()


def test_of_an_animation_the_first_picture_is_shown():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    image = loaded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert image.getpixel((0, 0))[:3] == (255, 0, 0)


def png_that_claims(width, height):
    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(60_000, 60_000), (1, 60_000), (2**31 - 1, 1)])
def test_a_bomb_is_refused_by_its_header(size):
    for read in (load_image, image_size):
        with pytest.raises(BadMedia, match=r"decode\.max_pixels") as caught:
            read(io.BufferedReader(io.BytesIO(png_that_claims(*size))), SPEC)
        assert caught.value.reason is Reason.TOO_LARGE


def test_the_bound_is_the_recipes():
    file = saved(Image.new("RGB", (11, 10)))
    with pytest.raises(BadMedia):
        load_image(file, DecodeSpec(max_pixels=120))
    assert load_image(file, DecodeSpec(max_pixels=121)).image.size == (11, 10)


@pytest.mark.parametrize("content", [b"not a picture at all", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_text_and_formats_not_listed_are_no_media(content):
    with pytest.raises(BadMedia) as caught:
        load_image(io.BufferedReader(io.BytesIO(content)), SPEC)
    assert caught.value.reason is Reason.NOT_MEDIA


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, on the way to refusing a TIFF
def test_a_picture_cut_or_damaged_anywhere_is_an_image_or_bad_media_never_a_bug(format_):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    whole = saved(Image.fromarray(pixels), format_).read()
    refused = 0
    rng = np.random.default_rng(1)
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        flipped = bytearray(whole)
        flipped[rng.integers(0, min(200, len(whole)))] ^= 1 << rng.integers(0, 8)
        for content in (whole[:at], bytes(flipped)):
            try:
                load_image(io.BufferedReader(io.BytesIO(content)), SPEC)
            except BadMedia:
                refused += 1
    assert refused >= 30
