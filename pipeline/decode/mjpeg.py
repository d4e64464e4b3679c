"""Frames as JPEG pictures one behind the other: what libav calls mjpeg."""

import io

import numpy as np
from numpy.typing import NDArray

_FULL_CHROMA = 0
"""Pillow's number for 4:4:4: an encoder sees colour at every pixel, so every pixel keeps its own."""


def to_mjpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The pictures of `[clips, frames, S, S, 3] uint8` RGB in order, as `[bytes] uint8`; quality is 1 to 100."""
    from PIL import Image

    stream = io.BytesIO()
    for picture in pixels.reshape(-1, *pixels.shape[2:]):
        Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=_FULL_CHROMA)
    return np.frombuffer(stream.getvalue(), np.uint8)
