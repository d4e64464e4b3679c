"""From packets to frames, each with the damage that it inherits."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.decode.av1 import prune
from pipeline.decode.container import ROOM_BYTES
from pipeline.runtime.isolated import check_room

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_BEFORE_ALL = -(1 << 63)
"""Ticks before any frame's."""

_AV1C_BEGINS, _AV1C_BYTES = b"\x81", 4
"""Marker and version, and length, of what stands before the sequence header in an AV1CodecConfigurationRecord."""


class Decoded(NamedTuple):
    """A frame, its time in ticks (None where none is told), and whether damage could have reached it."""

    frame: "VideoFrame"
    pts: int | None
    tainted: bool


class _Sent(NamedTuple):
    """What is known of a frame before it comes out.

    Attributes:
        number: Of its packet, in the order of decoding.
        since: Number of the packet from which damage may reach it: its keyframe's, or, for a leading
            picture, that of the keyframe before.
        settled: When a frame of this pts or a later one is out, all that it may refer to are out.
        leading: It is shown before its keyframe. No other frame behind that keyframe refers to it.
    """

    number: int
    since: int
    settled: int
    leading: bool = False


class Decoder:
    """Feeds the decoder of one stream, on one thread; frames come out in the order of presentation.

    Damage spreads from a frame to those that refer to it, at most up to the next keyframe: whatever was
    decoded behind a damaged frame of its GOP is tainted. A B-frame comes out before the later frame that
    it refers to, so it is held back until that one is out as well. Damaged is a frame that libav marks
    corrupt, or whose packet is corrupt or refused.

    Args:
        stream: Its codec context is used; nothing else may decode with it.
        by_dts: A frame's time is its dts (see `packets.WITHOUT_PTS`).
    """

    def __init__(self, stream: "VideoStream", *, by_dts: bool) -> None:
        from av.error import FFmpegError

        self._libav_error = FFmpegError
        self._context = stream.codec_context
        self._context.thread_count = 1  # workers are the parallelism
        self._intra_only = self._context.codec.intra_only
        # It reads skip_frame when it opens and never again; `needed` does its work.
        self._is_dav1d = self._context.codec.name == "libdav1d"
        self._by_dts = by_dts
        self._skip_frame = ""
        self._number = self._since = self._since_before = 0
        self._key_pts = self._furthest = self._passed = _BEFORE_ALL
        self._sent: dict[int, _Sent] = {}
        self._held: list[tuple[VideoFrame, int | None, _Sent]] = []
        self._marks: list[_Sent] = []
        self._current = _Sent(0, 0, _BEFORE_ALL)
        self.count = 0
        """Frames decoded so far."""
        self.damaged = False
        """Whether damage was met from the first keyframe on, other than in leading pictures."""
        self.refused: list[int] = []
        """Times of the packets that could not be decoded."""
        self.false_keyframe = False
        """Whether a packet that the container calls a keyframe's held another frame."""

    def needed(
        self, packets: "Sequence[Packet[VideoStream]]", targets: Collection[int]
    ) -> "Sequence[Packet[VideoStream] | None]":
        """Of a GOP's packets what must be sent to decode those numbered `targets`; None where nothing must.

        Only AV1 tells it (`pipeline.decode.av1`); of other codecs all packets are needed.
        """
        if not self._is_dav1d or any(packet.is_discard or packet.is_corrupt for packet in packets):
            return packets
        extradata = self._context.extradata or b""
        views = [memoryview(packet) for packet in packets]
        sent = prune(views, targets, extradata[_AV1C_BYTES:] if extradata[:1] == _AV1C_BEGINS else extradata)
        if sent is None:
            return packets
        return [
            None if data is None else packet if data is view else _shortened(packet, bytes(data))
            for packet, view, data in zip(packets, views, sent, strict=True)
        ]

    def send(self, packet: "Packet[VideoStream]", pts: int | None, *, wanted: bool) -> list[Decoded]:
        """Decodes the packet of the frame shown at `pts`; one not wanted, only if others may refer to it.

        Returns the frames that are ready, in order.
        """
        self._note(packet, pts)
        skip_frame = "DEFAULT" if wanted else "NONREF"
        if skip_frame != self._skip_frame and not self._is_dav1d:
            self._context.skip_frame = self._skip_frame = skip_frame  # type: ignore[assignment]
        self._receive(self._decode(packet))
        ready = 0
        while ready < len(self._held) and self._held[ready][2].settled <= self._passed:
            ready += 1
        return self._release(ready)

    def drain(self) -> list[Decoded]:
        """The frames still inside. Next may come any keyframe's packet."""
        if not self._number or (self._intra_only and not self._sent):
            return []
        self._receive(self._decode(None))
        self._sent.clear()
        self._context.flush_buffers()
        self._passed = _BEFORE_ALL
        return self._release(len(self._held))

    def _decode(self, packet: "Packet[VideoStream] | None") -> "list[VideoFrame]":
        try:
            return self._context.decode(packet)
        except MemoryError:
            raise
        except self._libav_error:
            check_room(ROOM_BYTES)
            self._mark(self._current)
            stamp = None if packet is None else packet.dts if self._by_dts else packet.pts
            if stamp is not None:
                self.refused.append(stamp)
            return []

    def _note(self, packet: "Packet[VideoStream]", pts: int | None) -> None:
        self._number += 1
        if packet.is_keyframe:
            self._since_before, self._since = self._since, self._number
            self._key_pts = self._furthest = _BEFORE_ALL if pts is None else pts
            self._marks = [mark for mark in self._marks if mark.number >= self._since_before]
        leading = pts is not None and pts < self._key_pts
        self._furthest = max(self._furthest, _BEFORE_ALL if pts is None else pts)
        since = self._since_before if leading else self._since
        self._current = _Sent(self._number, since, self._furthest, leading)
        if pts is not None:
            self._sent[pts] = self._current
        if packet.is_corrupt:
            self._mark(self._current)

    def _mark(self, sent: _Sent) -> None:
        self._marks.append(sent)
        self.damaged = self.damaged or (sent.since > 0 and not sent.leading)

    def _receive(self, frames: "Iterable[VideoFrame]") -> None:
        for frame in frames:
            self.count += 1
            pts = frame.dts if self._by_dts else frame.pts
            known = None if pts is None else self._sent.pop(pts, None)
            sent = known or _Sent(self._number, self._since, _BEFORE_ALL)
            if frame.is_corrupt:
                self._mark(sent)
            if known and known.number == known.since and not frame.key_frame:
                self.false_keyframe = True
            self._held.append((frame, pts, sent))
            self._passed = max(self._passed, _BEFORE_ALL if pts is None else pts)

    def _release(self, count: int) -> list[Decoded]:
        if not count:
            return []
        released, self._held = self._held[:count], self._held[count:]
        if not self._marks:
            return [Decoded(frame, pts, tainted=False) for frame, pts, _ in released]
        return [
            Decoded(frame, pts, any(_reaches(mark, sent) for mark in self._marks)) for frame, pts, sent in released
        ]


def _shortened(packet: "Packet[VideoStream]", data: bytes) -> "Packet[Any]":
    from av.packet import Packet

    short = Packet(data)
    short.pts, short.dts, short.duration = packet.pts, packet.dts, packet.duration
    short.time_base, short.is_keyframe = packet.time_base, packet.is_keyframe
    return short


def _reaches(mark: _Sent, sent: _Sent) -> bool:
    return sent.since <= mark.number <= sent.number and (sent.leading or not mark.leading)
