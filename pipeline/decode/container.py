"""Containers: libav may open these formats, from one open file, and nothing that the file names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING

from pipeline.decode.media import BadMedia
from pipeline.runtime.isolated import check_room
from schemas.rejection import Reason

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.video.stream import VideoStream

DEMUXERS = (
    "3gp", "apng", "asf", "avi", "flv", "gif", "ivf", "matroska", "mov", "mp4", "mpeg", "mpegts",
    "mpegvideo", "mxf", "nut", "ogg", "webm", "yuv4mpegpipe",
)  # fmt: skip
"""Playlists (hls, dash, concat, ...) name other files, so none is among these."""

ROOM_BYTES = 64 << 20
"""More than a decoder allocates at once for a frame of 8K."""


@contextmanager
def libav_errors(doing: str, reason: Reason = Reason.DECODE_ERROR) -> Iterator[None]:
    """Turns libav's errors into BadMedia in libav's own words. A lack of memory passes through."""
    from av.error import FFmpegError

    try:
        yield
    except MemoryError:
        raise
    except FFmpegError as error:
        check_room(ROOM_BYTES)  # some decoders call a lack of memory bad data
        raise BadMedia(reason, f"{doing}: {_words(error)}") from error


def open_container(file: BufferedReader) -> "InputContainer":
    """Opens `file` from its start. Raises BadMedia: NOT_MEDIA.

    libav sees no name (a suffix proves nothing), and knows no protocol but that of open descriptors. Its own
    is independent of `file`.
    """
    import av

    av.logging.set_level(av.logging.ERROR)  # else errors come without libav's explanation
    doing = "no film of the formats " + ", ".join(DEMUXERS)
    # Opened anew: a duplicate would share its place with `file`.
    descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    options = {
        "format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "fd", "fd": str(descriptor),
    }  # fmt: skip
    try:
        with libav_errors(doing, Reason.NOT_MEDIA):
            return av.open("fd:", mode="r", container_options=options, metadata_errors="replace")
    finally:
        os.close(descriptor)  # libav has made its own copy


def video_stream(container: "InputContainer") -> "VideoStream":
    """The video stream that a player shows: no cover picture; the default one, else the largest, else the first.

    Raises BadMedia: NO_VIDEO_STREAM, or UNSUPPORTED_CODEC where libav has no decoder for it.
    """
    from av.stream import Discard, Disposition

    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        kinds = ", ".join(stream.type for stream in container.streams) or "none"
        raise BadMedia(Reason.NO_VIDEO_STREAM, f"{container.format.name} without video; its streams: {kinds}")
    stream = max(films, key=lambda film: (bool(film.disposition & Disposition.default), _area(film)))
    if stream.codec_context is None:
        raise BadMedia(Reason.UNSUPPORTED_CODEC, "libav has no decoder for the video stream: transcode it")
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    return stream


def _words(error: "FFmpegError") -> str:
    logged = f" ({str(error.log[-1]).strip()})" if error.log else ""
    return f"{error.strerror}{logged}"


def _area(stream: "VideoStream") -> int:
    return stream.width * stream.height if stream.codec_context else 0
