"""From a picture or a decoded frame to an encoder's square: colour, geometry, padding and the one resize."""

import struct
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from threading import local
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.container import libav_errors
from schemas.media import Preprocessing

if TYPE_CHECKING:
    from av.buffer import Buffer
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from PIL.Image import Image

_UNTAGGED = (2, 3)
"""Matrix coefficients `unspecified` and `reserved` (ISO/IEC 23091-2, table 4)."""

_LIMITED = 1
"""libav's number of the range in which black is 16 and white 235."""

_LARGEST_CANVAS = 16_384 * 16_384
"""Pixels, 768 MiB of RGB. The square around a narrow strip is far larger than the strip itself."""

_STEEPEST = 40
"""A bicubic filter spans 4 output pixels. From 171 input pixels on, libswscale scales in two steps, or refuses."""


class Picture(Protocol):
    """One picture that can be shown to encoders; nothing is computed before it is asked for."""

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height, upright, with square pixels; the shorter measure is kept, the other one stretched."""

    def square(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """`[size, size, 3] uint8` RGB, full range: the picture centred in `pad_colour`, which alpha shows too.

        Raises BadMedia: DECODE_ERROR.
        """


@dataclass(frozen=True)
class StillPicture:
    """An image the right way up, in its stored pixels.

    Attributes:
        image: RGB, or RGBA where the source has an alpha channel.
        pixel_aspect: Width of a pixel divided by its height.
    """

    image: "Image"
    pixel_aspect: Fraction = Fraction(1)

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height with square pixels."""
        return _stretched(*self.image.size, self.pixel_aspect)

    def square(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Pads to a centred square of `pad_colour`, then resizes: Apollo's order (its `mm_utils`, after LLaVA).

        The resize is Pillow's, whose filter widens with the scale and so does not alias. Pixels that are
        not square are padded in stored pixels and set right by the same resize. A picture whose padded
        square would not fit into memory is placed as a `FramePicture` is.
        """
        image, aspect, size = self.image, self.pixel_aspect, preprocessing.size
        width = max(image.width, round(image.height / aspect))
        height = max(image.height, round(image.width * aspect))
        if width * height > _LARGEST_CANVAS:
            inner = fitted(image.width * aspect / image.height, size)
            return _placed(
                _resized(_flattened(image, image.size, preprocessing), inner, preprocessing), preprocessing
            )
        return _resized(_flattened(image, (width, height), preprocessing), (size, size), preprocessing)


class Scalers:
    """libswscale's contexts, one for each square: a context computes its filters anew when its size changes.

    Sharing one between 1080p -> 384 and 1080p -> 224 costs 0.5 ms of 3.6 ms. For one thread.
    """

    def __init__(self) -> None:
        self._scalers: dict[Hashable, VideoReformatter] = {}

    def of(self, use: Hashable) -> "VideoReformatter":
        """The same object for the same use."""
        from av.video.reformatter import VideoReformatter

        return self._scalers.setdefault(use, VideoReformatter())


_THREAD = local()


def thread_scalers() -> Scalers:
    """This thread's: films of one size, which most data sets hold, share their contexts."""
    if not hasattr(_THREAD, "scalers"):
        _THREAD.scalers = Scalers()
    scalers: Scalers = _THREAD.scalers
    return scalers


@dataclass(frozen=True)
class FramePicture:
    """A decoded frame. libswscale brings it from its planes to each encoder's size, and only then to RGB.

    A square differs from padding first and resizing then: the frame's edges are rounded to whole pixels, so
    they lie at most half a pixel off and are not blended with the padding. Elsewhere the mean
    difference from Pillow's was 0.1 to 0.4 levels on three films.

    The colour matrix is the stream's; where it names none, BT.709 from 720 rows up and BT.601 below,
    as players take it (libswscale alone would take BT.601 always). No tone mapping: HDR keeps its
    transfer curve.

    Attributes:
        frame: As it left the decoder.
        pixel_aspect: Width of a stored pixel divided by its height.
        matrix: How the frame is turned: `display_matrix(frame)`, or that of a frame turned alike.
        scalers: Shared by all frames that a thread makes squares of.
    """

    frame: "VideoFrame"
    pixel_aspect: Fraction
    matrix: tuple[int, ...]
    scalers: Scalers

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height, turned, with square pixels."""
        width, height = _stretched(self.frame.width, self.frame.height, self.pixel_aspect)
        return (height, width) if _is_quarter_turn(self.matrix) else (width, height)

    def square(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """`[size, size, 3] uint8` RGB; alpha is laid over `pad_colour`. Raises BadMedia: DECODE_ERROR."""
        stored = _fitted(self.frame.width, self.frame.height, self.pixel_aspect, preprocessing.size)
        scale = self._scaled_whole if self._is_hard(stored) else self._scaled
        return _placed(orient(scale(stored, preprocessing), self.matrix), preprocessing)

    def _is_hard(self, size: tuple[int, int]) -> bool:
        """Whether libswscale would scale colour apart from alpha, or shrink beyond its filters."""
        frame, (width, height) = self.frame, size
        alpha = frame.format.has_palette or any(component.is_alpha for component in frame.format.components)
        return alpha or frame.width > _STEEPEST * width or frame.height > _STEEPEST * height

    def _scaled(self, size: tuple[int, int], preprocessing: Preprocessing) -> NDArray[np.uint8]:
        frame, interpolation = _progressive(self.frame), preprocessing.interpolation
        colours = _colours(self.frame)
        if self.frame.format.name.startswith("yuv"):
            # First to size, then to RGB: libswscale scales planes much faster than it makes RGB with whole chroma.
            # 1080p -> 384 takes 1.1 ms in place of 1.9, and differs by 0.1 levels in the mean and 1 at most.
            scaler = self.scalers.of(("size", preprocessing.size))
            same = {"dst_colorspace": colours["src_colorspace"], "dst_color_range": colours["src_color_range"]}
            frame = _converted(frame, "yuv444p10le", size, interpolation, scaler, colours | same)
        scaler = self.scalers.of(("rgb24", preprocessing.size))
        rgb = _converted(frame, "rgb24", size, interpolation, scaler, colours)
        return self._full_range(_pixels(rgb))

    def _scaled_whole(self, size: tuple[int, int], preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """By Pillow, from RGB at full size: many times slower."""
        from PIL import Image

        whole = self.frame.width, self.frame.height
        scaler = self.scalers.of("rgba")
        rgba = _converted(
            _progressive(self.frame), "rgba", whole, preprocessing.interpolation, scaler, _colours(self.frame)
        )
        pixels = self._full_range(np.asarray(rgba.to_ndarray(), np.uint8))
        return _resized(_flattened(Image.fromarray(pixels), whole, preprocessing), size, preprocessing)

    def _full_range(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Libswscale takes every grey for full range. Where no range is told, so do we."""
        if self.frame.format.name.startswith("gray") and self.frame.color_range == _LIMITED:
            return np.rint((np.arange(256) - 16) * 255 / 219).clip(0, 255).astype(np.uint8)[pixels]
        return pixels


def _pixels(rgb24: "VideoFrame") -> NDArray[np.uint8]:
    """`[height, width, 3]`: a view of the frame's own memory, which it keeps alive."""
    plane = rgb24.planes[0]
    rows: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8).reshape(rgb24.height, plane.line_size)
    return rows[:, : 3 * rgb24.width].reshape(rgb24.height, rgb24.width, 3)


def fitted(aspect: Fraction, size: int) -> tuple[int, int]:
    """Width and height of the centred rectangle that shows a picture of `aspect` (width / height) in a square.

    The longer side is `size`. Each edge is the nearest to where it would be exactly, so that both
    margins are equal; the rectangle is at least one pixel thick (two where `size` is even).
    """
    margin = min(round(size * (1 - min(aspect, 1 / aspect)) / 2), (size - 1) // 2)
    thickness = size - 2 * margin
    return (size, thickness) if aspect >= 1 else (thickness, size)


def display_matrix(frame: "VideoFrame") -> tuple[int, ...]:
    """Nine numbers in the order of ISO/IEC 14496-12, 6.2.2; only their signs and proportions count."""
    data: Buffer | None = frame.side_data.get("DISPLAYMATRIX")  # type: ignore[assignment]
    return (1, 0, 0, 0, 1, 0, 0, 0, 1) if data is None else struct.unpack("9i", bytes(data))


@lru_cache(maxsize=64)
def _fitted(width: int, height: int, pixel_aspect: Fraction, size: int) -> tuple[int, int]:
    return fitted(width * pixel_aspect / height, size)


def orient(pixels: NDArray[np.uint8], matrix: tuple[int, ...]) -> NDArray[np.uint8]:
    """Applies a display matrix, read as the nearest quarter turn with or without a mirror.

    A stored pixel (x, y) is displayed at x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2),
    where `matrix` is (a, b, u, c, d, v, tx, ty, w). Takes and returns `[height, width, channels]`; a view.
    """
    a, b, _, c, d = matrix[:5]
    if _is_quarter_turn(matrix):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _is_quarter_turn(matrix: tuple[int, ...]) -> bool:
    return abs(matrix[1]) > abs(matrix[0])


def _stretched(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    if pixel_aspect >= 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


def _converted(
    frame: "VideoFrame", format_: str, size: tuple[int, int], interpolation: str, scaler: "VideoReformatter",
    colours: Mapping[str, int | None],
) -> "VideoFrame":  # fmt: skip
    from av.error import FFmpegError

    try:
        return scaler.reformat(
            frame, *size, format_, **colours,
            interpolation=_flags(interpolation),
            threads=1,  # on several it now and then writes wrong pixels
        )  # fmt: skip
    except FFmpegError:
        matrix = int(frame.colorspace)
        with libav_errors(f"cannot convert {frame.format.name} of colour matrix {matrix} to {format_}"):
            raise


@cache
def _flags(interpolation: str) -> int:
    """libswscale's: without FULL_CHR_H_INT neighbours share their chroma (2 levels off in the mean, 50 at edges).

    Without ACCURATE_RND a frame that keeps its size is off by 3, and without BITEXACT pixels differ by CPU; both
    are free.
    """
    from av.video.reformatter import Interpolation as Flag

    return Flag[interpolation.upper()] | Flag.FULL_CHR_H_INT | Flag.ACCURATE_RND | Flag.BITEXACT


def _colours(frame: "VideoFrame") -> dict[str, int | None]:
    """What a frame's colours are taken for; None where it is tagged."""
    from av.video.reformatter import ColorRange, Colorspace

    untagged = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    return {
        "src_colorspace": untagged if frame.colorspace in _UNTAGGED else None,
        "src_color_range": ColorRange.JPEG if frame.format.name.startswith("yuvj") else None,
    }


def _progressive(frame: "VideoFrame") -> "VideoFrame":
    """The same planes, called progressive: libswscale scales the fields of an interlaced frame one by one.

    That leaves combs where things moved; scaled as a whole, the fields blend. Costs 0.1 ms.
    """
    from av.filter import Graph

    if not frame.interlaced_frame:
        return frame
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
    )
    graph.link_nodes(source, graph.add("setfield", "prog"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def _flattened(image: "Image", size: tuple[int, int], preprocessing: Preprocessing) -> "Image":
    """The image in the middle of a canvas of `pad_colour`, which its alpha shows too."""
    from PIL import Image

    canvas = Image.new("RGB", size, preprocessing.pad_colour)
    corner = (size[0] - image.width) // 2, (size[1] - image.height) // 2
    canvas.paste(image, corner, mask=image if image.mode == "RGBA" else None)
    return canvas


def _resized(image: "Image", size: tuple[int, int], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(image.resize(size, Image.Resampling[preprocessing.interpolation.upper()]))


def _placed(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    size, (height, width, _) = preprocessing.size, pixels.shape
    top, left = (size - height) // 2, (size - width) // 2
    bottom, right = top + height, left + width
    square, canvas = np.empty((size, size, 3), np.uint8), _canvas(size, preprocessing.pad_colour)
    square[:top], square[bottom:] = canvas[:top], canvas[bottom:]
    square[top:bottom, :left], square[top:bottom, right:] = canvas[:height, :left], canvas[:height, right:]
    square[top:bottom, left:right] = pixels
    return square


@lru_cache(maxsize=8)
def _canvas(size: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A square of one colour. Copying it takes a tenth of the time of filling a new one."""
    return np.full((size, size, 3), colour, np.uint8)
