"""`Film`: the frame that a viewer sees at a time, from any container that libav reads.

Time counts from the first shown frame, whose pts is 0 here whatever the container says; what an edit
list hides is not shown. The frame for t is the one with the greatest pts <= t, both floored to a
nanosecond; of frames with equal pts, the last. The last frame stays until its own end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BufferedReader
from math import floor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipeline.decode.container import libav_errors, open_container, video_stream
from pipeline.decode.grid import NS
from pipeline.decode.media import BadMedia, check_size
from pipeline.decode.picture import Picture, displayed
from schemas.media import DecodeSpec
from schemas.rejection import Reason

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

SEEKABLE = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")
"""Formats whose index leads to keyframes by presentation time; others are decoded from their start."""

WITHOUT_PTS = ("avi",)
"""Formats that store no pts; what libav makes up for one may run backwards, its dts do not."""

SEEK_BEYOND_NS = 10 * NS
"""Nearer frames are reached by decoding: x264 puts a keyframe at least every 250 frames, 10 s at 25 fps."""

SEEK_MARGIN_NS = NS
"""Seeks aim this much early: mov finds keyframes by dts, which runs ahead of pts by the frames reordered."""


@dataclass(frozen=True)
class ShownFrame:
    """A decoded frame and its times."""

    frame: "VideoFrame"
    pts_ns: int
    duration_ns: int
    """0 where the container does not tell."""
    tainted: bool
    """It, or a frame since the last keyframe, was decoded from damaged data."""


class Film:
    """One open film; at most two decoded frames are held at a time.

    Args:
        file: From `open_plain`; it stays the caller's to close.
        spec: The bounds, and the fps.

    Raises BadMedia (NOT_MEDIA, NO_VIDEO_STREAM, TOO_LARGE, DECODE_ERROR) here and in its methods.
    """

    def __init__(self, file: BufferedReader, spec: DecodeSpec) -> None:
        from av.video.reformatter import VideoReformatter

        self._file = file
        self._spec = spec
        self._reformatter = VideoReformatter()
        self._seekable = True
        self._origin = 0
        self._container = open_container(file)
        try:
            self._begin()
        except BadMedia:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the decoder."""
        self._container.close()

    def displayed_size(self) -> tuple[int, int]:
        """Width and height of the current frame as displayed: turned, with square pixels."""
        return self.picture(self._shown).displayed_size

    def duration_ns(self) -> int:
        """From the first shown frame to the end of the last one, as the container tells it.

        The stream's header where it says; else its packets are read, not decoded, for a container's
        duration covers its sound too.
        """
        if self._stream.duration and self._stream.duration > 0:
            return self._ns(self._stream.duration) - self._lost_ns()
        end = self._origin
        with libav_errors("cannot read the packets"), open_container(self._file) as container:
            for packet in container.demux(video_stream(container)):
                if packet.pts is not None:
                    end = max(end, packet.pts + (packet.duration or 0))
        ticks = end - self._origin
        self._rewind()
        return self._ns(ticks)

    def shown_at(self, times_ns: Sequence[int]) -> Iterator[ShownFrame]:
        """One frame for each of `times_ns`, which must ascend; a frame shown twice is the same object.

        Raises BadMedia with DECODE_ERROR when a frame that is asked for is damaged, or when the film
        ends before its time by more than a grid step and the longest frame seen.
        """
        for t_ns in times_ns:
            if self._seekable and t_ns - self._shown.pts_ns > SEEK_BEYOND_NS:
                self._seek(t_ns)
            self._advance(t_ns)
            self._check_shown(t_ns)
            yield self._shown

    def picture(self, shown: ShownFrame) -> Picture:
        """The frame in RGB, the right way up."""
        check_size(shown.frame.width, shown.frame.height, self._spec)
        picture = displayed(shown.frame, self._pixel_aspect, self._reformatter)
        check_size(*picture.displayed_size, self._spec)
        return picture

    def _begin(self) -> None:
        """Decodes the first frame of a container just opened; its pts is the origin of time."""
        self._stream = video_stream(self._container)
        check_size(self._stream.width, self._stream.height, self._spec)
        self._tick_ns = (self._stream.time_base or Fraction(1, NS)) * NS
        self._pixel_aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self._longest_ns = 0
        self._frames = self._decode(None)
        first = next(self._frames, None)
        if first is None:
            raise BadMedia(Reason.DECODE_ERROR, f"not one frame of {self._stream.name} could be decoded")
        self._shown = first
        self._next: ShownFrame | None = None

    def _rewind(self) -> None:
        self._container.close()
        self._container = open_container(self._file)
        self._begin()

    def _advance(self, t_ns: int) -> None:
        """Decodes until the frame behind the shown one is later than `t_ns`, or there is none."""
        while True:
            self._next = self._next or next(self._frames, None)
            if self._next is None or self._next.pts_ns > t_ns:
                return
            self._longest_ns = max(self._longest_ns, self._next.pts_ns - self._shown.pts_ns)
            self._shown, self._next = self._next, None

    def _seek(self, t_ns: int) -> None:
        """Jumps to the keyframe at or before `t_ns`, or starts anew where the container leads elsewhere."""
        if self._container.format.name not in SEEKABLE:
            self._seekable = False
            return
        offset = self._origin + floor(max(0, t_ns - SEEK_MARGIN_NS) / self._tick_ns)
        try:
            with libav_errors("cannot seek"):
                self._container.seek(offset, stream=self._stream)
            frames = self._decode(self._origin)
            key = next((shown for shown in frames if shown.frame.key_frame), None)
        except BadMedia:
            key = None
        if key is None or key.pts_ns > t_ns:
            self._seekable = False
            self._rewind()
        else:
            self._frames, self._shown, self._next = frames, key, None

    def _decode(self, origin: int | None) -> Iterator[ShownFrame]:
        """Frames in the order of presentation, from wherever the container stands.

        `origin` is the pts that counts as 0; None takes the first frame's and keeps it.
        """
        clock = _Clock(self._container.format.name)
        tainted, last_ns = False, 0
        with libav_errors(f"{self._stream.name} cannot be decoded"):
            for frame in self._container.decode(self._stream):
                pts = clock.read(frame)
                if origin is None:
                    origin = self._origin = pts
                pts_ns = self._ns(pts - origin)
                if pts_ns < last_ns:
                    raise BadMedia(
                        Reason.DECODE_ERROR, f"a frame at {pts_ns} ns is shown after one at {last_ns} ns: remux it"
                    )
                tainted = frame.is_corrupt or (tainted and not frame.key_frame)
                yield ShownFrame(frame, pts_ns, self._ns(frame.duration or 0), tainted)
                last_ns = pts_ns

    def _ns(self, ticks: int) -> int:
        """Ticks of the stream's time base, floored to nanoseconds; in integers, for every frame passes here."""
        return ticks * self._tick_ns.numerator // self._tick_ns.denominator

    def _lost_ns(self) -> int:
        """How much of the header's duration lies before the first frame that could be decoded."""
        if self._stream.start_time is None or self._container.format.name in WITHOUT_PTS:
            return 0
        return self._ns(max(0, self._origin - self._stream.start_time))

    def _check_shown(self, t_ns: int) -> None:
        shown = self._shown
        if shown.tainted:
            raise BadMedia(Reason.DECODE_ERROR, f"the frame at {shown.pts_ns} ns is damaged")
        end_ns = shown.pts_ns + max(shown.duration_ns, self._longest_ns)
        if self._next is None and t_ns > end_ns + NS / self._spec.fps:
            raise BadMedia(
                Reason.DECODE_ERROR,
                f"truncated: the film ends at {end_ns} ns, but a frame at {t_ns} ns was asked, which its "
                "header or its annotation promised: fetch it again",
            )


class _Clock:
    """Time stamps of frames in the order of presentation, also where the container lacks some.

    A frame without a stamp begins where the one before it ends.
    """

    def __init__(self, container_format: str) -> None:
        self._stored = "dts" if container_format in WITHOUT_PTS else "pts"
        self._end: int | None = None

    def read(self, frame: "VideoFrame") -> int:
        """The frame's time, in its time base. Raises BadMedia when it has none."""
        stamp: int | None = getattr(frame, self._stored)
        stamp = self._end if stamp is None else stamp
        if stamp is None:
            raise BadMedia(Reason.DECODE_ERROR, "a frame has no time stamp: remux it with `ffmpeg -fflags +genpts`")
        self._end = stamp + frame.duration if frame.duration else None
        return stamp
