"""A film script as the bytes of an MP4 file."""

import io
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.shapes.scene import COLOURS, NANOSECONDS, SIDE, Film, Kind, Mover

_SUBPIXELS = 4
_OPTIONS = {"preset": "ultrafast", "crf": "18", "threads": "1"}
"""One thread and no look-ahead: equal films give equal bytes, and the first frame is at time 0."""


def render(film: Film) -> bytes:
    """The film as MP4 (H.264, yuv420p), frame i at i / fps s. Equal bytes for equal films and one PyAV."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=film.fps, options=_OPTIONS)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for pixels in draw_frames(film):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def draw_frames(film: Film) -> Iterator[NDArray[np.uint8]]:
    """Frames in order, each `[SIDE, SIDE, 3] uint8` RGB."""
    background = np.empty((SIDE, SIDE, 3), np.uint8)
    background[:] = film.background
    sprites = [(mover, _sprite(mover, film.background)) for mover in film.movers]
    for index in range(film.fps * film.seconds):
        t_ns = index * NANOSECONDS // film.fps
        frame = background.copy()
        for mover, sprite in sprites:
            if mover.shown(t_ns):
                x, y = mover.centre(t_ns)
                top, left, size = y - mover.radius, x - mover.radius, 2 * mover.radius
                frame[top : top + size, left : left + size] = sprite
        yield frame


def _sprite(mover: Mover, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The shape on its background, `[2 radius, 2 radius, 3] uint8`; it may be pasted, as no two touch."""
    colour, ground = np.array(COLOURS[mover.colour], np.float64), np.array(background, np.float64)
    blend = ground + coverage(mover.kind, mover.radius)[..., None] * (colour - ground)
    return np.rint(blend).astype(np.uint8)


@lru_cache(maxsize=32)
def coverage(kind: Kind, radius: int) -> NDArray[np.float64]:
    """Share of each pixel that the shape covers, `[2 radius, 2 radius]` in [0, 1], by 4 x 4 subpixels."""
    fine = 2 * radius * _SUBPIXELS
    axis = (np.arange(fine) + 0.5) / (fine / 2) - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    inside = _inside(kind, x, y).reshape(2 * radius, _SUBPIXELS, 2 * radius, _SUBPIXELS)
    share: NDArray[np.float64] = inside.mean(axis=(1, 3))
    share.flags.writeable = False
    return share


def _inside(kind: Kind, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points of the square [-1, 1] x [-1, 1] (y downwards) lie in the shape."""
    inside: NDArray[np.bool_]
    match kind:
        case "circle":
            inside = x**2 + y**2 <= 1
        case "square":
            inside = np.maximum(abs(x), abs(y)) <= 0.9
        case "triangle":
            inside = abs(x) <= (y + 1) / 2
        case "cross":
            inside = np.minimum(abs(x), abs(y)) <= 3 / 8
    return inside
