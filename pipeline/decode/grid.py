"""Which times of a film are shown to the encoders: pure and exact.

A clip is `frames_per_clip` frames at `fps`, so it lasts C = frames_per_clip / fps seconds (Apollo:
4 frames at 2 fps, 2 s). A span of D seconds that starts at S holds n = ceil(D / C) clips.

- n <= max_clips: clips follow one another without a gap; clip i starts at S + i C.
- n > max_clips: the span is cut into max_clips equal partitions of P = D / max_clips (> C) seconds,
  and each has its clip in its centre: clip i starts at S + i P + (P - C) / 2. Apollo's released
  `calculate_sample_indices` centres clips in partitions likewise, on frame indices.

Frame k of a clip is asked at its start + k / fps. Where the span ends inside the last clip, the
times behind its end repeat the last one inside it, so every clip has exactly frames_per_clip times
and none lies outside the span.

All sums are Fractions; only the result is floored to a nanosecond. Presentation times are floored
too, so a frame that begins exactly at a grid time is the one shown at it.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from schemas.media import DecodeSpec

NS = 10**9
"""Nanoseconds a second."""


@dataclass(frozen=True)
class ClipPlan:
    """One clip before decoding: its span [start_ns, exclusive_end_ns) and the times of its frames."""

    start_ns: int
    exclusive_end_ns: int
    t_ns: tuple[int, ...]


def clip_duration_ns(spec: DecodeSpec) -> Fraction:
    """C = frames_per_clip / fps, nanoseconds."""
    return spec.frames_per_clip * NS / spec.fps


def plan_clips(start_ns: int, exclusive_end_ns: int, spec: DecodeSpec) -> tuple[ClipPlan, ...]:
    """The clips of the span [start_ns, exclusive_end_ns), in order.

    Raises ValueError when the span is empty.
    """
    span = exclusive_end_ns - start_ns
    if start_ns < 0 or span <= 0:
        raise ValueError(f"empty span [{start_ns}, {exclusive_end_ns}) ns: its end must come after its start")
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
