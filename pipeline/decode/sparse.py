"""The plan before decoding: which packets must be decoded to show the frames asked for. Pure.

A GOP in which no frame is asked for is left out. Of the others the packets up to the last one asked
for (in the order of decoding) are sent; those asked for are decoded, and of the rest the decoder
itself leaves out what no frame refers to (libavcodec's `skip_frame`).

Leading pictures are shown before the keyframe that they follow in the file (open GOPs). They refer
to the GOP before as well, so where one is asked for, that GOP is sent to its end.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.decode.packets import Gop


class Unplannable(Exception):  # noqa: N818 - no fault: such a film is decoded frame by frame
    """The packets do not tell which frames are shown when."""


@dataclass(frozen=True)
class Step:
    """What is done with one GOP.

    Attributes:
        gop: The packets.
        asked: (tick asked for, pts of the frame shown then), ascending; the frame may lie in the next
            GOP's leading pictures.
        targets: pts of the frames of this GOP that are asked for.
        end: Packets [0, end) are sent to the decoder.
        leads_on: Leading pictures of the next GOP are asked for as well.
        last: The film ends with it.
    """

    gop: Gop
    asked: tuple[tuple[int, int], ...]
    targets: frozenset[int]
    end: int
    leads_on: bool
    last: bool


def plan(gops: Iterable[Gop], ticks: Iterable[int]) -> Iterator[Step]:
    """The steps that show a frame at each of `ticks`, up to the last one; none for a GOP of which nothing is sent.

    `ticks` ascend, and none comes before the first GOP's first frame. Reads one GOP ahead.
    Raises Unplannable.
    """
    waiting = deque(ticks)
    leading: frozenset[int] = frozenset()
    ahead = iter(gops)
    gop = next(ahead, None)
    while gop and (waiting or leading):
        following = next(ahead, None)
        shown, begins = _shown(gop, following)
        asked = tuple(_asked(waiting, shown, begins))
        wanted = frozenset(pts for _, pts in asked)
        own = wanted.intersection(gop.pts)
        targets, leading = own | leading, wanted - own
        end = len(gop.packets) if leading else 1 + max((gop.pts.index(pts) for pts in targets), default=-1)
        if targets or leading:
            yield Step(gop, asked, targets, end, leads_on=bool(leading), last=following is None and not gop.cut)
        gop = following


def _shown(gop: Gop, following: Gop | None) -> tuple[list[int], int | None]:
    """Times of the frames shown from this GOP's first own frame to the next one's, and when that begins."""
    first, own = gop.key_pts, [pts for pts in gop.pts if pts is not None]
    if first is None or not gop.whole:
        raise Unplannable
    if following is None:
        return _ascending(pts for pts in own if pts >= first), None
    begins, others = following.key_pts, [pts for pts in following.pts if pts is not None]
    if begins is None or not following.whole or begins <= first or max(own) >= begins:
        raise Unplannable
    return _ascending(pts for pts in (*own, *others) if first <= pts < begins), begins


def _ascending(times: Iterable[int]) -> list[int]:
    ascending = sorted(times)
    if len(set(ascending)) < len(ascending):
        raise Unplannable
    return ascending


def _asked(waiting: deque[int], shown: list[int], begins: int | None) -> Iterator[tuple[int, int]]:
    while waiting and (begins is None or waiting[0] < begins):
        tick = waiting.popleft()
        place = bisect_right(shown, tick)
        if not place:
            raise Unplannable
        yield tick, shown[place - 1]
