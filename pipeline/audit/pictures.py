"""Sizes of JPEG pictures that lie one behind the other, from their headers; no picture is decoded."""

import io

_BEGIN, _END = b"\xff\xd8\xff", b"\xff\xd9"
"""Start of image and the first byte of the marker behind it, which no scan holds (T.81, B.1.1.5); end of image."""


def picture_sizes(payload: bytes) -> list[tuple[int, int]]:
    """(width, height) of each RGB picture, in order.

    Raises ValueError for anything but whole JPEG pictures in colour, one behind the other.
    """
    from PIL import Image, UnidentifiedImageError

    before, *pictures = payload.split(_BEGIN)
    if before:
        raise ValueError(f"begins with {payload[:8]!r}, a JPEG picture with {_BEGIN!r}")
    sizes = []
    for number, picture in enumerate(pictures):
        if not picture.endswith(_END):
            raise ValueError(f"picture {number} of {len(pictures)} has no end")
        try:
            image = Image.open(io.BytesIO(_BEGIN + picture), formats=("JPEG",))
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"picture {number} of {len(pictures)} is no JPEG: {error}") from error
        if image.mode != "RGB":
            raise ValueError(f"picture {number} of {len(pictures)} is {image.mode}, must be in colour")
        sizes.append(image.size)
    return sizes
