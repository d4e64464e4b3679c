"""Pictures of a member `.frames.mjpeg`: JPEG files one behind the other, told apart by their markers.

Rec. ITU-T T.81, annex B: a picture is SOI, segments that tell their length, entropy-coded data behind each SOS in
which 0xFF is followed by 0x00 or a restart marker, and EOI.
"""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA

MAX_SIDE = 1024
"""Pixels: `Preprocessing.size` allows no more, so a header that claims more is not obeyed."""


class MjpegError(ValueError):
    """Not the pictures that were promised. The message shows what was found."""


def from_mjpeg(data: bytes | bytearray, frames: Sequence[int]) -> NDArray[np.uint8]:
    """`[clips, frames, S, S, 3] uint8` RGB of pictures in order; `[0, 0, 0, 0, 3]` where there is no byte.

    `frames` counts the frames of each clip, which must be as many in all. Raises MjpegError.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        return np.zeros((0, 0, 0, 0, 3), np.uint8)
    try:
        opened = [Image.open(io.BytesIO(each)) for each in split_pictures(data)]
        if too_large := [image.size for image in opened if max(image.size) > MAX_SIDE]:
            raise MjpegError(f"a picture of {too_large[0]} pixels, none has a side of over {MAX_SIDE}")
        pictures = [np.asarray(image) for image in opened]
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise MjpegError(f"a picture cannot be decoded: {error}") from error
    shapes = {picture.shape for picture in pictures}
    if len(pictures) != sum(frames) or len(set(frames)) != 1 or len(shapes) != 1 or len(min(shapes)) != 3:
        raise MjpegError(f"{len(pictures)} pictures of shapes {sorted(shapes)} for clips of {list(frames)} frames")
    return np.stack(pictures).reshape(len(frames), frames[0], *pictures[0].shape)


def split_pictures(data: bytes | bytearray) -> Iterator[bytes]:
    """Each picture, SOI to EOI. Raises MjpegError where a picture does not begin or end."""
    begin = 0
    while begin < len(data):
        end = _end(data, begin)
        yield bytes(data[begin:end])
        begin = end


def _end(data: bytes | bytearray, begin: int) -> int:
    if data[begin : begin + 2] != bytes((0xFF, _SOI)):
        raise MjpegError(f"no picture begins at byte {begin} of {len(data)}")
    at = begin + 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _EOI:
        marker = data[at + 1]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SOS:
            at = _after_scan(data, at)
    if data[at : at + 2] != bytes((0xFF, _EOI)):
        raise MjpegError(f"the picture that begins at byte {begin} of {len(data)} has no end")
    return at + 2


def _after_scan(data: bytes | bytearray, at: int) -> int:
    """The next marker that is neither a stuffed byte nor a restart."""
    while (at := data.find(0xFF, at)) >= 0:
        if at + 1 < len(data) and data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 1
    return len(data)
