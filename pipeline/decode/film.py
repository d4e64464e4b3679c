"""`Film`: the frame that a viewer sees at a time, from any container that libav reads.

Time counts from the first shown frame, whose pts is 0 here whatever the container says; what an edit
list hides is not shown. The frame for t is the one with the greatest pts <= t, both floored to a
nanosecond; of frames with equal pts, the last. The last frame stays until its own end.

Only what the frames asked for need is decoded (`pipeline.decode.sparse`). A film whose packets do not
tell when their frames are shown, or whose frames turn out otherwise than the packets say, is decoded
frame by frame from its start.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from io import BufferedReader
from itertools import chain, dropwhile, pairwise
from math import ceil
from typing import TYPE_CHECKING

from pipeline.decode.backend import FilmReader, ShownFrame
from pipeline.decode.container import libav_errors, open_container, video_stream
from pipeline.decode.decoder import Decoded, Decoder
from pipeline.decode.every_frame import every_frame, runs_back
from pipeline.decode.grid import NS
from pipeline.decode.media import BadMedia, check_size
from pipeline.decode.packets import TIMES_MAY_JUMP, WITHOUT_PTS, Gop, PacketReader
from pipeline.decode.picture import FramePicture, display_matrix, thread_scalers
from pipeline.decode.sparse import Step, Unplannable, plan
from schemas.media import DecodeSpec
from schemas.rejection import Reason

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SEEKABLE = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")
"""Formats whose index leads to keyframes by presentation time; of others all packets are read."""

SEEK_BEYOND_NS = 10 * NS
"""Nearer frames are reached by reading: x264 puts a keyframe at least every 250 frames, 10 s at 25 fps."""

SEEK_MARGIN_NS = NS
"""Seeks aim this much early: mov finds keyframes by dts, which runs ahead of pts by the frames reordered."""

_NO_START = "its first frame cannot be decoded, so all its times are in doubt: fetch it again"


class Film(FilmReader):
    """One open film, read by libav; a `FilmReader`.

    Holds the packets of two GOPs, and of frames only those that wait to be shown.

    Args:
        file: From `open_plain`; it stays the caller's to close.
        spec: The bounds, and the fps.

    Raises BadMedia (NOT_MEDIA, NO_VIDEO_STREAM, UNSUPPORTED_CODEC, TOO_LARGE, TRUNCATED, BAD_TIMESTAMPS,
    DECODE_ERROR) here and in its methods.
    """

    def __init__(self, file: BufferedReader, spec: DecodeSpec) -> None:
        self._file = file
        self._spec = spec
        self._matrices: dict[int, tuple[int, ...]] = {}
        self._fresh = self._plannable = self._seekable = True
        self._origin = 0
        self._container: InputContainer | None = None
        try:
            self._begin()
        except BadMedia:
            self.close()
            raise

    @property
    def decoded_frames(self) -> int:
        """How many frames the decoder has brought out since it was last opened."""
        return self._decoder.count

    def close(self) -> None:
        """Frees the decoder."""
        if self._container:
            self._container.close()

    def displayed_size(self) -> tuple[int, int]:
        """Width and height of the first frame as displayed: turned, with square pixels."""
        return next(self.shown_at([0])).picture.displayed_size

    def duration_ns(self) -> int:
        """From the first shown frame to the end of the last one, as the container tells it.

        The stream's header where it says; else its packets are read, not decoded, for a container's
        duration covers its sound too. Raises BadMedia: BAD_TIMESTAMPS where these jump back.
        """
        told = self._reader.format not in TIMES_MAY_JUMP
        if told and self._stream.duration and self._stream.duration > 0:
            return self._ns(self._stream.duration) - self._lost_ns()
        ends = [pts + duration for pts, duration in self._packet_times() if pts is not None]
        return self._since_origin(max(ends, default=self._origin))

    def frame_times_ns(self) -> tuple[int, ...]:
        """Presentation times of all shown frames, ascending: from the packets where these tell them."""
        times = [pts for pts, _ in self._packet_times()]
        if self._plannable and None not in times:
            return tuple(
                sorted(self._since_origin(pts) for pts in times if pts is not None and pts >= self._origin)
            )
        self._begin_frame_by_frame(None)
        every = tuple(self._since_origin(pts) for pts, _ in chain([self._first], self._every))
        self._begin()
        return every

    def average_rate(self) -> Fraction:
        """Frames a second: the container's, else frames over duration."""
        return self._stream.average_rate or Fraction(len(self.frame_times_ns()) * NS, max(1, self.duration_ns()))

    def shown_at(self, times_ns: Sequence[int]) -> Iterator[ShownFrame]:
        """One frame for each of `times_ns`, which must ascend; a frame shown twice is the same object.

        Raises BadMedia: TRUNCATED when the film ends before its time by more than a grid step and the longest
        frame of its last GOP.
        """
        if not self._fresh:
            self._begin()
        self._fresh = False
        done = 0
        if self._plannable:
            try:
                for shown in self._as_planned(times_ns):
                    done += 1
                    yield shown
                return
            except Unplannable:
                self._begin_frame_by_frame(self._origin if done else None)
        yield from self._frame_by_frame(times_ns[done:])

    # Opening.

    def _begin(self) -> None:
        """Opens the container at its start, and finds when time begins."""
        self._open()
        if self._reader.format in WITHOUT_PTS:
            self._check_all_there()
        self._fresh = True
        if self._reader.timeless:
            self._stand_at_first(None)
            return
        self._check_begins_whole()
        first = self._reader.head()
        if first is None or first.first_pts is None or not self._tells_its_start(first):
            self._begin_frame_by_frame(None)
        else:
            self._plannable = True
            self._origin = first.first_pts

    def _check_begins_whole(self) -> None:
        """Libav calls a keyframe of MP4 none where its data are no keyframe's, and then time would begin later."""
        listed = self._stream.index_entries[:1]
        first = self._reader.peek()
        if first and listed and listed[0].is_keyframe and listed[0].pos == first.pos and not first.is_keyframe:
            raise BadMedia(Reason.DAMAGED, _NO_START)

    def _check_all_there(self) -> None:
        """A frame's time is its number here, so where one is missing, all behind it would get wrong times."""
        index = list(self._stream.index_entries)
        found = sum(_is_chunk(self._file, entry.pos, entry.size) for entry in index)
        if found < len(index):
            raise BadMedia(
                Reason.TRUNCATED,
                f"{found} of the {len(index)} frames are there that its index lists, and {self._reader.format} "
                "does not tell which: fetch it again",
            )

    def _tells_its_start(self, first: Gop) -> bool:
        """Whether time begins with the first keyframe's frame.

        Not where pictures are shown before it, which may or may not be decodable; and who knows where every
        packet is called a keyframe's, for then B-frames are out of order.
        """
        each_a_keyframe = len(first.packets) == 1 and not first.cut and not self._reader.intra_only
        return first.whole and first.first_pts == first.key_pts and not each_a_keyframe

    def _open(self) -> None:
        self.close()
        self._container = container = open_container(self._file)
        self._stream = video_stream(container)
        check_size(self._stream.width, self._stream.height, self._spec)
        self._pixel_aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self._reader = PacketReader(container, self._stream)
        self._tick_ns = self._reader.time_base * NS
        self._decoder = Decoder(self._stream, by_dts=self._reader.format in WITHOUT_PTS)

    def _packet_times(self) -> list[tuple[int | None, int]]:
        """Time and duration of every shown frame, ticks; leaves the film at its start."""
        self._open()
        times, dts = [], None
        for packet in self._reader.packets():
            if self._reader.shows(packet):
                times.append((self._reader.time(packet), packet.duration or 0))
            if self._reader.format in TIMES_MAY_JUMP and packet.dts is not None:
                if dts is not None and packet.dts < dts:
                    raise runs_back(packet.dts, dts, self._reader.time_base)
                dts = packet.dts
        self._begin()
        return times

    # Only what the frames asked for need.

    def _as_planned(self, times_ns: Sequence[int]) -> Iterator[ShownFrame]:
        """Raises Unplannable when the packets do not tell what is shown when, or told it wrong."""
        shown: ShownFrame | None = None
        for pts, decoded in self._asked_and_decoded([self._tick(t_ns) for t_ns in times_ns]):
            if decoded is None or decoded.pts != pts:  # it went in, but never came out
                if shown is None or not self._decoder.damaged:
                    raise Unplannable
                shown = replace(shown, damaged=True)
            elif shown is None or shown.pts_ns != self._since_origin(pts):
                shown = self._show(decoded, pts)
            yield shown

    def _asked_and_decoded(self, ticks: Sequence[int]) -> Iterator[tuple[int, Decoded | None]]:
        """For each tick the pts of its frame, and the first frame that came out with that pts or a later one."""
        asked: deque[int] = deque()
        for decoded in self._decoded(ticks, asked):
            if self._decoder.false_keyframe:
                raise Unplannable
            while asked and decoded.pts is not None and asked[0] <= decoded.pts:
                yield asked.popleft(), decoded
        yield from ((pts, None) for pts in asked)

    def _decoded(self, ticks: Sequence[int], asked: deque[int]) -> Iterator[Decoded]:
        """The frames of the plan, in order; what it asks for is put into `asked` as it is sent."""
        for step in self._steps(ticks):
            if step.last and step.asked:
                self._check_end(step.gop, step.asked[-1][0])
            asked.extend(pts for _, pts in step.asked)
            for packet, pts in zip(self._needed(step), step.gop.pts, strict=False):
                if packet is not None:
                    yield from self._decoder.send(packet, pts, wanted=pts in step.targets)
            if not step.leads_on:
                yield from self._decoder.drain()

    def _needed(self, step: Step) -> "Sequence[Packet[VideoStream] | None]":
        packets = step.gop.packets[: step.end]
        if step.leads_on or not packets:
            return packets
        return self._decoder.needed(packets, {step.gop.pts.index(pts) for pts in step.targets})

    def _steps(self, ticks: Sequence[int]) -> Iterator[Step]:
        """The plan, with a seek to each tick that lies far behind the one before."""
        far = ceil(SEEK_BEYOND_NS / self._tick_ns)
        jumps = [i for i, (a, b) in enumerate(pairwise([self._origin, *ticks])) if b - a > far]
        near = ticks[: jumps[0] if jumps else None]
        yield from self._plan(near)
        for jump, end in pairwise([*jumps, len(ticks)]):
            if not self._seek(ticks[jump]):
                self._open()
                yield from self._plan(ticks[jump:])
                return
            yield from self._plan(ticks[jump:end])

    def _plan(self, ticks: Sequence[int]) -> Iterator[Step]:
        if ticks:
            gops = self._reader.gops(last_tick=ticks[-1])
            yield from plan(dropwhile(lambda gop: gop.is_hidden, gops), ticks)

    def _seek(self, tick: int) -> bool:
        """Whether the film now stands at a keyframe whose GOP begins at or before `tick`."""
        if not self._seekable or self._reader.format not in SEEKABLE:
            return False
        try:
            with libav_errors("cannot seek"):
                self._reader.seek(max(self._origin, tick - ceil(SEEK_MARGIN_NS / self._tick_ns)))
        except BadMedia:
            self._seekable = False
        else:
            first = self._reader.head()
            self._seekable = first is not None and first.key_pts is not None and first.key_pts <= tick
        return self._seekable

    def _check_end(self, gop: Gop, tick: int) -> None:
        shown = sorted(pts for pts in gop.pts if pts is not None)
        longest = max((b - a for a, b in pairwise(shown)), default=0)
        end = shown[-1] + max(longest, gop.packets[gop.pts.index(shown[-1])].duration or 0)
        self._check_reaches(tick, end)

    # Frame by frame.

    def _begin_frame_by_frame(self, origin: int | None) -> None:
        """Opens anew; time begins at the first frame that can be decoded, unless `origin` says otherwise."""
        self._open()
        self._stand_at_first(origin)

    def _stand_at_first(self, origin: int | None) -> None:
        self._plannable = False
        self._every = every_frame(self._reader, self._decoder)
        first = next(self._every, None)
        if first is None:
            raise BadMedia(Reason.DECODE_ERROR, f"not one frame of {self._stream.name} could be decoded")
        if origin is None and self._decoder.damaged:
            raise BadMedia(Reason.DAMAGED, _NO_START)
        self._first = first
        self._origin = first[0] if origin is None else origin

    def _frame_by_frame(self, times_ns: Sequence[int]) -> Iterator[ShownFrame]:
        (pts, decoded), following = self._first, next(self._every, None)
        longest, shown = 0, None
        for t_ns in times_ns:
            tick = self._tick(t_ns)
            while following and following[0] <= tick:
                longest = max(longest, following[0] - pts)
                (pts, decoded), following, shown = following, next(self._every, None), None
            if following is None:
                self._check_reaches(tick, pts + max(decoded.frame.duration or 0, longest))
            shown = shown or self._show(decoded, pts)
            if any(pts < refused <= tick for refused in self._decoder.refused):
                shown = replace(shown, damaged=True)
            yield shown

    # Times and pictures.

    def _show(self, decoded: Decoded, pts: int) -> ShownFrame:
        frame = decoded.frame
        check_size(frame.width, frame.height, self._spec)
        picture = FramePicture(frame, self._pixel_aspect, self._matrix(frame), thread_scalers())
        check_size(*picture.displayed_size, self._spec)
        return ShownFrame(self._since_origin(pts), self._ns(frame.duration or 0), decoded.tainted, picture)

    def _matrix(self, frame: "VideoFrame") -> tuple[int, ...]:
        """How the frame is turned; read once for frames turned alike.

        Reading it ties the frame into a cycle, which keeps its buffer until the garbage collector runs.
        """
        if frame.rotation not in self._matrices:
            self._matrices[frame.rotation] = display_matrix(frame)
        return self._matrices[frame.rotation]

    def _since_origin(self, tick: int) -> int:
        """Nanoseconds."""
        return self._ns(tick - self._origin)

    def _ns(self, ticks: int) -> int:
        """Ticks of the stream's time base, floored to nanoseconds; in integers, for every frame passes here."""
        return ticks * self._tick_ns.numerator // self._tick_ns.denominator

    def _tick(self, t_ns: int) -> int:
        """The last tick that is, floored to nanoseconds, not later than `t_ns`."""
        ns, ticks = self._tick_ns.as_integer_ratio()
        return self._origin + -(-(t_ns + 1) * ticks // ns) - 1

    def _lost_ns(self) -> int:
        """How much of the header's duration lies before the first frame that could be decoded."""
        if self._stream.start_time is None or self._reader.format in WITHOUT_PTS:
            return 0
        return self._ns(max(0, self._origin - self._stream.start_time))

    def _check_reaches(self, tick: int, end: int) -> None:
        if (tick - end) * self._tick_ns > NS / self._spec.fps:
            why = self._reader.ended_by or "no more packets"
            raise BadMedia(
                Reason.TRUNCATED,
                f"the film ends at {self._since_origin(end)} ns ({why}), but a frame at {self._since_origin(tick)} "
                "ns was asked, which its header or its annotation promised: fetch it again",
            )


def _is_chunk(file: BufferedReader, offset: int, size_bytes: int) -> bool:
    """Whether the RIFF chunk at `offset` says that it holds so many bytes."""
    return offset >= 0 and int.from_bytes(os.pread(file.fileno(), 4, offset + 4), "little") == size_bytes
