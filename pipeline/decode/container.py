"""Containers: libav may open these formats, from one open file, and nothing that the file names."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING

from pipeline.decode.media import BadMedia
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


@contextmanager
def libav_errors(doing: str, reason: Reason = Reason.DECODE_ERROR) -> Iterator[None]:
    """Turns libav's errors into BadMedia in libav's own words. A lack of memory passes through."""
    from av.error import FFmpegError

    try:
        yield
    except MemoryError:
        raise
    except FFmpegError as error:
        raise BadMedia(reason, f"{doing}: {_words(error)}") from error


def open_container(file: BufferedReader) -> "InputContainer":
    """Opens `file` from its start. Raises BadMedia: NOT_MEDIA.

    libav sees neither a name (a suffix proves nothing) nor any protocol: it reads through `file`.
    """
    import av

    av.logging.set_level(av.logging.ERROR)  # else errors come without libav's explanation
    file.seek(0)
    doing = "no film of the formats " + ", ".join(DEMUXERS)
    options = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "none"}
    with libav_errors(doing, Reason.NOT_MEDIA):
        return av.open(file, mode="r", container_options=options, metadata_errors="replace")


def video_stream(container: "InputContainer") -> "VideoStream":
    """The first video stream that is no cover picture, set to decode on one thread, alone.

    Raises BadMedia: NO_VIDEO_STREAM, or DECODE_ERROR where libav has no decoder for it.
    """
    from av.stream import Discard, Disposition

    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        kinds = ", ".join(stream.type for stream in container.streams) or "none"
        raise BadMedia(Reason.NO_VIDEO_STREAM, f"{container.format.name} without video; its streams: {kinds}")
    stream = films[0]
    if stream.codec_context is None:
        raise BadMedia(Reason.DECODE_ERROR, "libav has no decoder for the video stream: transcode it")
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    stream.codec_context.thread_count = 1  # workers are the parallelism
    return stream


def _words(error: "FFmpegError") -> str:
    logged = f" ({str(error.log[-1]).strip()})" if error.log else ""
    return f"{error.strerror}{logged}"
