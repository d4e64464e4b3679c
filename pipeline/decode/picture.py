"""From a decoded frame to an encoder's square: colour, display geometry, padding and the one resize."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

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


@dataclass(frozen=True)
class Picture:
    """One frame the right way up, in its stored pixels.

    Attributes:
        image: RGB, or RGBA where the source has an alpha channel.
        pixel_aspect: Width of a pixel divided by its height.
    """

    image: "Image"
    pixel_aspect: Fraction = Fraction(1)

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height with square pixels; the shorter measure is kept, the other one stretched."""
        width, height = self.image.size
        if self.pixel_aspect >= 1:
            return round(width * self.pixel_aspect), height
        return width, round(height / self.pixel_aspect)


def square(picture: Picture, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pads to a centred square of `pad_colour`, then resizes: Apollo's order (its `mm_utils`, after LLaVA).

    The resize is Pillow's, whose filter widens with the scale and so does not alias. Pixels that are
    not square are padded in stored pixels and set right by the same resize. Returns
    `[size, size, 3] uint8` RGB; alpha is laid over `pad_colour`.
    """
    from PIL import Image

    image, aspect = picture.image, picture.pixel_aspect
    width = max(image.width, round(image.height / aspect))
    height = max(image.height, round(image.width * aspect))
    canvas = Image.new("RGB", (width, height), preprocessing.pad_colour)
    corner = (width - image.width) // 2, (height - image.height) // 2
    canvas.paste(image, corner, mask=image if image.mode == "RGBA" else None)
    filter_ = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    side = (preprocessing.size, preprocessing.size)
    return np.asarray(canvas.resize(side, filter_[preprocessing.interpolation]))


def displayed(frame: "VideoFrame", pixel_aspect: Fraction, reformatter: "VideoReformatter") -> Picture:
    """The frame in RGB, turned and mirrored as its display matrix says.

    The colour matrix is the stream's; where it names none, BT.709 from 720 rows up and BT.601 below,
    as players take it (libswscale alone would take BT.601 always). RGB is full range. No
    tone mapping: HDR keeps its transfer curve.
    """
    from PIL import Image

    matrix = _display_matrix(frame)
    pixels = orient(_rgb(frame, reformatter), matrix)
    return Picture(Image.fromarray(pixels), 1 / pixel_aspect if _is_quarter_turn(matrix) else pixel_aspect)


def orient(pixels: NDArray[np.uint8], matrix: tuple[int, ...]) -> NDArray[np.uint8]:
    """Applies a display matrix, read as the nearest quarter turn with or without a mirror.

    A stored pixel (x, y) is displayed at x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2),
    where `matrix` is (a, b, u, c, d, v, tx, ty, w). Takes and returns `[height, width, channels]`.
    """
    a, b, _, c, d = matrix[:5]
    if _is_quarter_turn(matrix):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _is_quarter_turn(matrix: tuple[int, ...]) -> bool:
    return abs(matrix[1]) > abs(matrix[0])


def _display_matrix(frame: "VideoFrame") -> tuple[int, ...]:
    data: Buffer | None = frame.side_data.get("DISPLAYMATRIX")  # type: ignore[assignment]
    return (1, 0, 0, 0, 1, 0, 0, 0, 1) if data is None else struct.unpack("9i", bytes(data))


def _rgb(frame: "VideoFrame", reformatter: "VideoReformatter") -> NDArray[np.uint8]:
    """`[height, width, 3 or 4] uint8`, before the display matrix."""
    from av.video.reformatter import Colorspace, Interpolation

    untagged = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    alpha = any(component.is_alpha for component in frame.format.components)
    with libav_errors(f"cannot convert {frame.format.name} to RGB"):
        converted = reformatter.reformat(
            frame,
            format="rgba" if alpha else "rgb24",
            src_colorspace=untagged if frame.colorspace in _UNTAGGED else None,
            # Without these flags libswscale is off by up to 3 levels, and by CPU.
            interpolation=Interpolation.BILINEAR
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INT
            | Interpolation.BITEXACT,
            threads=1,
        )
    return np.asarray(converted.to_ndarray(), np.uint8)
