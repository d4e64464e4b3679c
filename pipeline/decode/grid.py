"""Which times of a film are shown to the encoders: pure and exact. `DecodeSpec.sampling` chooses how.

A clip is `frames_per_clip` frames at `fps`, so it lasts C = frames_per_clip / fps seconds (Apollo:
4 frames at 2 fps, 2 s). A span of D seconds that starts at S holds n = ceil(D / C) clips.

`fps`: frame k of a clip is asked at its start + k / fps.

- n <= max_clips: clips follow one another without a gap; clip i starts at S + i C.
- n > max_clips: the span is cut into max_clips equal partitions of P = D / max_clips (> C) seconds,
  and each has its clip in its centre: clip i starts at S + i P + (P - C) / 2.

Where the span ends inside the last clip, the times behind its end repeat the last one inside it, so
every clip has exactly frames_per_clip times and none lies outside the span.

`uniform`: N = max_clips x frames_per_clip times, whatever D is: the centres of N equal parts of the
span, time j at S + (2 j + 1) D / (2 N). Clip i is partition i of max_clips, with the times in it.

`released_compat`: frames by their numbers, as Apollo's released code takes them
(`pipeline.decode.released`), at most max_clips clips. The time of a frame is its own pts.

All sums are Fractions; only the result is floored to a nanosecond. Presentation times are floored
too, so a frame that begins exactly at a grid time is the one shown at it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from pipeline.decode.released import released_indices
from schemas.media import DecodeSpec

NS = 10**9
"""Nanoseconds a second."""


@dataclass(frozen=True)
class ClipPlan:
    """One clip before decoding: its span [start_ns, exclusive_end_ns) and the times of its frames.

    The times ascend, with repeats, and lie inside the span of the clip.
    """

    start_ns: int
    exclusive_end_ns: int
    t_ns: tuple[int, ...]


def clip_duration_ns(spec: DecodeSpec) -> Fraction:
    """C = frames_per_clip / fps, nanoseconds."""
    return spec.frames_per_clip * NS / spec.fps


def plan_clips(start_ns: int, exclusive_end_ns: int, spec: DecodeSpec) -> tuple[ClipPlan, ...]:
    """The clips of the span [start_ns, exclusive_end_ns), in order, by time: `fps` and `uniform`.

    Raises ValueError when the span is empty, or when the sampling goes by frames.
    """
    _check_span(start_ns, exclusive_end_ns)
    match spec.sampling:
        case "fps":
            return _plan_fps(start_ns, exclusive_end_ns, spec)
        case "uniform":
            return _plan_uniform(start_ns, exclusive_end_ns, spec)
        case "released_compat":
            raise ValueError("sampling released_compat goes by frames, not by time: call plan_released")


def plan_released(
    frame_times_ns: Sequence[int], rate: Fraction, start_ns: int, exclusive_end_ns: int, spec: DecodeSpec
) -> tuple[ClipPlan, ...]:
    """The clips of the span [start_ns, exclusive_end_ns), in order, by frames: `released_compat`.

    The frames that begin inside the span count as a whole film; if none does, the one on the screen at
    its start. Neighbouring clips may share frames, so times ascend inside a clip but not over all clips.
    A clip's span ends with its last frame: 1.5 s and one frame, not 2 s, at Apollo's settings.

    Args:
        frame_times_ns: pts of all shown frames of the film, ascending.
        rate: Average of the film, frames a second, as its container tells it. Frames / duration will not do:
            a duration in whole milliseconds makes 24 of 23.999 or the reverse, and steps are rounded down.
        start_ns: Of the span.
        exclusive_end_ns: Of the span.
        spec: Its fps, frames_per_clip and max_clips count.

    Raises ValueError when the span is empty, or the rate gives a clip less than one frame.
    """
    _check_span(start_ns, exclusive_end_ns)
    times = [t for t in frame_times_ns if start_ns <= t < exclusive_end_ns] or [start_ns]
    clip_s = spec.frames_per_clip / spec.fps
    ratio = min(Fraction(1), spec.max_clips * clip_s * rate / len(times))
    return tuple(
        ClipPlan(
            start_ns=times[clip[0]],
            exclusive_end_ns=_end_of(times, clip[-1], exclusive_end_ns),
            t_ns=tuple(times[number] for number in clip),
        )
        for clip in released_indices(rate, len(times), clip_s, spec.frames_per_clip, ratio)
    )


def _check_span(start_ns: int, exclusive_end_ns: int) -> None:
    if not 0 <= start_ns < exclusive_end_ns:
        raise ValueError(f"empty span [{start_ns}, {exclusive_end_ns}) ns: its end must come after its start")


def _plan_fps(start_ns: int, exclusive_end_ns: int, spec: DecodeSpec) -> tuple[ClipPlan, ...]:
    span = exclusive_end_ns - start_ns
    clip = clip_duration_ns(spec)
    count = ceil(span / clip)
    offset, stride = Fraction(start_ns), clip
    if count > spec.max_clips:
        count, stride = spec.max_clips, Fraction(span, spec.max_clips)
        offset += (stride - clip) / 2
    return tuple(_clip(offset + index * stride, exclusive_end_ns, spec) for index in range(count))


def _clip(start: Fraction, span_end_ns: int, spec: DecodeSpec) -> ClipPlan:
    step = NS / spec.fps
    inside = [floor(t) for k in range(spec.frames_per_clip) if (t := start + k * step) < span_end_ns]
    repeated = [inside[-1]] * (spec.frames_per_clip - len(inside))
    end_ns = min(floor(start + spec.frames_per_clip * step), span_end_ns)
    return ClipPlan(floor(start), end_ns, (*inside, *repeated))


def _plan_uniform(start_ns: int, exclusive_end_ns: int, spec: DecodeSpec) -> tuple[ClipPlan, ...]:
    partition = Fraction(exclusive_end_ns - start_ns, spec.max_clips)
    part = partition / spec.frames_per_clip
    clips = []
    for index in range(spec.max_clips):
        start = start_ns + index * partition
        times = tuple(floor(start + (k + Fraction(1, 2)) * part) for k in range(spec.frames_per_clip))
        # Of parts below 2 ns, the last time and the end may be floored to the same nanosecond.
        clips.append(ClipPlan(floor(start), max(floor(start + partition), times[-1] + 1), times))
    return tuple(clips)


def _end_of(times_ns: Sequence[int], number: int, span_end_ns: int) -> int:
    """When the frame gives way to another, or the span ends."""
    following = bisect_right(times_ns, times_ns[number])
    return times_ns[following] if following < len(times_ns) else span_end_ns
