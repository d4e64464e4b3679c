"""A film frame by frame, for those whose packets do not tell what is shown when."""

from collections.abc import Iterator
from fractions import Fraction

from pipeline.decode.decoder import Decoded, Decoder
from pipeline.decode.media import BadMedia
from pipeline.decode.packets import PacketReader
from schemas.rejection import Reason

_REMUX = "remux it with `ffmpeg -fflags +genpts`, or set decode.on_damage to salvage"


def every_frame(reader: PacketReader, decoder: Decoder) -> Iterator[tuple[int, Decoded]]:
    """Every frame in the order of presentation, and its time in ticks; both objects must be fresh.

    A frame without a time begins where the one before it ends. Raises BadMedia: BAD_TIMESTAMPS.
    """
    end: int | None = None
    last: int | None = None
    for decoded in _every_decoded(reader, decoder):
        pts = end if decoded.pts is None else decoded.pts
        if pts is None:
            raise BadMedia(Reason.BAD_TIMESTAMPS, f"a frame has no time: {_REMUX}")
        if last is not None and pts < last:
            raise runs_back(pts, last, reader.time_base)
        yield pts, decoded
        last, end = pts, pts + decoded.frame.duration if decoded.frame.duration else None


def runs_back(now: int, before: int, time_base: Fraction) -> BadMedia:
    """What to raise for a tick that comes after a later one."""
    return BadMedia(Reason.BAD_TIMESTAMPS, f"tick {now} comes after tick {before} (of {time_base} s): {_REMUX}")


def _every_decoded(reader: PacketReader, decoder: Decoder) -> Iterator[Decoded]:
    for packet in reader.packets():
        yield from decoder.send(packet, reader.time(packet), wanted=True)
    yield from decoder.drain()
