"""Pictures: the first frame of a picture file, upright, as RGB or RGBA."""

import struct
from io import BufferedReader
from typing import TYPE_CHECKING

import numpy as np

from pipeline.decode.media import BadMedia, check_size
from pipeline.decode.picture import StillPicture
from schemas.media import DecodeSpec
from schemas.rejection import Reason

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats read. Pillow knows more, among them EPS, which starts another program."""

_UPRIGHT = (1, 2, 3, 4)
"""EXIF orientations that keep width and height."""
_ORIENTATION = 0x0112
_BROKEN = (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, struct.error)
"""What Pillow's parsers raise on damaged files."""


def image_size(file: BufferedReader, spec: DecodeSpec) -> tuple[int, int]:
    """Displayed width and height, from the headers alone. Raises BadMedia."""
    image = _open(file, spec)
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        orientation = 1
    return image.size if orientation in _UPRIGHT else (image.height, image.width)


def load_image(file: BufferedReader, spec: DecodeSpec) -> StillPicture:
    """Decodes the picture: EXIF orientation applied, grey, palette, CMYK and 16 bits made 8-bit RGB.

    Alpha is kept as RGBA. Embedded colour profiles are not applied. Raises BadMedia.
    """
    from PIL import ImageOps

    image = _open(file, spec)
    try:
        return StillPicture(_rgb(ImageOps.exif_transpose(image)))
    except _BROKEN as error:
        raise BadMedia(Reason.DECODE_ERROR, f"{image.format}: {type(error).__name__}: {error}") from error


def _open(file: BufferedReader, spec: DecodeSpec) -> "Image":
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # `spec.max_pixels` is the bound
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise BadMedia(Reason.NOT_MEDIA, f"no picture of the formats {', '.join(FORMATS)}") from None
    except _BROKEN as error:
        raise BadMedia(Reason.NOT_MEDIA, f"{type(error).__name__}: {error}") from error
    check_size(*image.size, spec)
    return image


def _rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255. The widest value is 65535 in all these modes.
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed white: convert the picture to 8 bits")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
