"""Packets of a film, read but not decoded, in groups that begin with a keyframe (GOPs)."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

WITHOUT_PTS = ("avi",)
"""Formats that store no pts; what libav makes up for one may run backwards, its dts do not."""

TIMES_MAY_JUMP = ("mpeg", "mpegts")
"""Formats whose clock may start anew (libav's AVFMT_TS_DISCONT). They store no duration: libav subtracts ends."""

MAX_GOP_BYTES = 256 << 20
"""Most that is held of one GOP. Longer ones (hours without a keyframe) are decoded frame by frame."""

_TELL_B_FRAMES = ("h263", "flv", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4")
"""Decoders that know of B-frames by a header (MPEG-4's `low_delay`) or know none; H.264's may meet them late."""

_VP8_SHOW_FRAME = 0x10
"""Bit of a VP8 frame's first byte (RFC 6386, 9.1): clear for an alt-ref frame, which is never shown."""


@dataclass
class Gop:
    """A keyframe's packet and those behind it, in the order of decoding, up to the next keyframe.

    Attributes:
        packets: As the container holds them.
        pts: For each packet the time of the frame it shows, in ticks of the stream's time base; None for a
            frame that is decoded but never shown (cut away by an edit list, or an alt-ref frame).
        whole: Every packet that shows a frame says when, and none breaks the rules that a plan relies on.
        cut: Packets follow that were not read, for all that is asked for is here.
    """

    packets: "list[Packet[VideoStream]]" = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)
    whole: bool = True
    cut: bool = False

    @property
    def is_hidden(self) -> bool:
        """An edit list hides all of it."""
        return self.whole and self.key_pts is None

    @property
    def first_pts(self) -> int | None:
        """Time of the first frame shown, leading pictures included; None where there is none."""
        return min((pts for pts in self.pts if pts is not None), default=None)

    @property
    def key_pts(self) -> int | None:
        """Time of the first frame shown that refers to nothing before the keyframe; None where there is none."""
        key = self.packets[0].pts
        if key is not None and self.pts[0] == key:
            return key
        return min((pts for pts in self.pts if pts is not None and (key is None or pts >= key)), default=None)


class PacketReader:
    """Reads the packets of one stream, from wherever its container stands.

    Attributes:
        format: Name of the container's format.
        time_base: Seconds a tick.
        intra_only: No frame of the codec refers to another.
        timeless: No packet tells when its frame is shown.
        ended_by: libav's words for a damaged end; empty where the file ends as it should.
    """

    def __init__(self, container: "InputContainer", stream: "VideoStream") -> None:
        self._container = container
        self._stream = stream
        self.format = container.format.name
        self._vp8 = stream.codec_context.name == "vp8"
        self.intra_only = stream.codec_context.codec.intra_only
        # A packet's dts is its frame's only time in AVI, and right where frames are shown as they are decoded.
        self._by_dts = self.format in WITHOUT_PTS and (self.intra_only or _without_b_frames(stream))
        self.timeless = self.format in WITHOUT_PTS and not self._by_dts
        self.time_base = stream.time_base or Fraction(1, 10**9)
        self._ahead: deque[Packet[VideoStream]] = deque()
        self.ended_by = ""

    def seek(self, tick: int) -> None:
        """Goes to where libav thinks that the keyframe at or before `tick` lies. Raises FFmpegError."""
        self._ahead.clear()
        self._container.seek(tick, stream=self._stream)

    def packets(self) -> "Iterator[Packet[VideoStream]]":
        """All packets up to the end of the file, or of what can be read of it."""
        demuxed = self._demuxed()
        while True:
            while self._ahead:
                yield self._ahead.popleft()
            for packet in demuxed:
                yield packet
                if self._ahead:
                    break
            else:
                return

    def peek(self) -> "Packet[VideoStream] | None":
        """The next packet, which is read again."""
        packet = next(self.packets(), None)
        if packet:
            self._ahead.appendleft(packet)
        return packet

    def head(self) -> Gop | None:
        """The first GOP that shows anything, read no further than to tell when that begins; it is read again."""
        read: list[Packet[VideoStream]] = []
        gop: Gop | None = None
        for gop in self._gops(lambda gop, dts: gop.key_pts is not None and dts > gop.key_pts):
            read += gop.packets
            if not gop.is_hidden:
                break
        self._ahead.extendleft(reversed(read))
        return gop

    def gops(self, last_tick: int) -> Iterator[Gop]:
        """From the first keyframe on, as far as frames shown up to `last_tick` go.

        What lies before a keyframe cannot be decoded. A GOP of more than `MAX_GOP_BYTES` is given up, not
        `whole`, and is the last.
        """
        return self._gops(lambda _, dts: dts > last_tick)

    def _demuxed(self) -> "Iterator[Packet[VideoStream]]":
        from av.error import FFmpegError

        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except MemoryError:
            raise
        except FFmpegError as error:
            self.ended_by = str(error.strerror)
        except IndexError:  # PyAV, where a transport stream gains a stream on its way
            self.ended_by = "a stream that its start did not announce"

    def _gops(self, is_enough: Callable[[Gop, int], bool]) -> Iterator[Gop]:
        """`is_enough` is asked with each packet's dts, for no later packet is shown before that."""
        gop: Gop | None = None
        size_bytes = 0
        for packet in self.packets():
            if gop and (packet.is_keyframe or (packet.dts is not None and is_enough(gop, packet.dts))):
                self._ahead.appendleft(packet)
                gop.whole = gop.whole and self._is_regular(packet)
                gop.cut = not packet.is_keyframe
                yield gop
                if gop.cut:
                    return
                gop = None
                continue
            if packet.is_keyframe:
                gop, size_bytes = Gop(), 0
            size_bytes += packet.size
            if gop and size_bytes > MAX_GOP_BYTES:
                self._ahead.appendleft(packet)
                gop.whole = False
                break
            if gop:
                self._append(gop, packet)
        if gop:
            yield gop

    def _append(self, gop: Gop, packet: "Packet[VideoStream]") -> None:
        shown = self.shows(packet)
        pts = self.time(packet) if shown else None
        gop.packets.append(packet)
        gop.pts.append(pts)
        gop.whole = gop.whole and (pts is not None or not shown) and self._is_regular(packet)

    def _is_regular(self, packet: "Packet[VideoStream]") -> bool:
        """Not shown before it is decoded, which would spoil what dts promises; and brings no new parameters, which
        all that comes after would lack if it were left out.
        """
        is_early = packet.pts is not None and packet.dts is not None and packet.pts < packet.dts
        if is_early:
            return False
        # Most packets have none, and `has_sidedata` takes longer to find that out.
        return all(not packet.has_sidedata("new_extradata") for _ in packet.iter_sidedata())

    def shows(self, packet: "Packet[VideoStream]") -> bool:
        """Whether the packet's frame is shown at all."""
        if packet.is_discard:
            return False
        return not self._vp8 or bool(memoryview(packet)[0] & _VP8_SHOW_FRAME)

    def time(self, packet: "Packet[VideoStream]") -> int | None:
        """When the packet's frame is shown, ticks; None where the container does not tell."""
        if self.timeless:
            return None
        return packet.dts if self._by_dts else packet.pts


def _without_b_frames(stream: "VideoStream") -> bool:
    """Whether the stream says so. Where it is wrong, frames come out at other times than planned, which is seen."""
    context = stream.codec_context
    return context.name in _TELL_B_FRAMES and not context.has_b_frames
