"""`AnimationFilm`: an animated WebP as a film, by Pillow: libav 9 opens it, but its decoder refuses the frames."""

import struct
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from itertools import accumulate
from typing import TYPE_CHECKING

from pipeline.decode.indexed import IndexedFilm
from pipeline.decode.media import BadMedia, check_size
from pipeline.decode.picture import StillPicture
from schemas.media import DecodeSpec
from schemas.rejection import Reason

if TYPE_CHECKING:
    from PIL.Image import Image

SHORTEST_MS = 11
USUAL_MS = 100
"""A frame of 10 ms or less is shown for 100 ms, as in Chrome and Firefox: 0 means `as fast as it goes` nowhere."""

_HEAD_BYTES = 30
_ANIMATED = 0x02
_MS = 10**6
_BROKEN = (OSError, EOFError, ValueError, SyntaxError)
"""What Pillow raises on damaged files."""


def is_animation(file: BufferedReader) -> bool:
    """Whether it is a WebP with the animation flag; the file stands at its start again."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    is_extended = len(head) == _HEAD_BYTES and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_extended and bool(head[20] & _ANIMATED)


class AnimationFilm(IndexedFilm):
    """One open animation, shown once; a `FilmReader`. In memory: the file's bytes, and a few frames.

    Args:
        file: One of which `is_animation` holds; it stays the caller's to close.
        spec: The bounds, and the fps.

    Raises BadMedia (TOO_LARGE, DECODE_ERROR) here and in its methods, and TRUNCATED in `shown_at`.
    """

    def __init__(self, file: BufferedReader, spec: DecodeSpec) -> None:
        # Before Pillow: it allocates the whole canvas when it opens the file.
        check_size(*_canvas(file), spec)
        durations_ms = [ms if ms >= SHORTEST_MS else USUAL_MS for ms in _durations_ms(file)]
        self._image = _open(file, len(durations_ms))
        *starts_ns, end_ns = accumulate((ms * _MS for ms in durations_ms), initial=0)
        super().__init__(starts_ns, end_ns, spec)

    def close(self) -> None:
        """Frees the decoder."""
        self._image.close()

    def displayed_size(self) -> tuple[int, int]:
        """Width and height of the canvas."""
        return self._image.size

    def _picture(self, number: int) -> StillPicture:
        try:
            self._image.seek(number)
            return StillPicture(self._image.copy())
        except _BROKEN as error:
            raise BadMedia(
                Reason.DECODE_ERROR, f"WebP frame {number}: {type(error).__name__}: {error}: fetch the file again"
            ) from error


def _open(file: BufferedReader, frames: int) -> "Image":
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # `spec.max_pixels` is the bound
    file.seek(0)
    try:
        # Its decoder wants all bytes anyway, and Pillow closes the file that it is given.
        image = Image.open(BytesIO(file.read()), formats=("WEBP",))
    except _BROKEN as error:
        raise BadMedia(Reason.DECODE_ERROR, f"animated WebP: {error}: fetch the file again") from error
    held = getattr(image, "n_frames", 1)
    if held != frames or not frames:
        raise BadMedia(
            Reason.DECODE_ERROR, f"animated WebP of {frames} frames, {held} of them whole: fetch the file again"
        )
    return image


def _canvas(file: BufferedReader) -> tuple[int, int]:
    """Width and height from the VP8X chunk: 24 bits each, one less than the measure."""
    file.seek(24)
    head = file.read(6)
    return int.from_bytes(head[:3], "little") + 1, int.from_bytes(head[3:], "little") + 1


def _durations_ms(file: BufferedReader) -> Iterator[int]:
    """Of each ANMF chunk: 24 bits behind place and size. A RIFF chunk is `<name> <u32 size>`, padded to even."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        start = file.tell()
        if name == b"ANMF":
            file.seek(12, 1)
            yield int.from_bytes(file.read(3), "little")
        file.seek(start + size + size % 2)
