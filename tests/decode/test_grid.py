"""Laws of the time grid."""

from fractions import Fraction
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode.grid import plan_clips
from schemas.media import DecodeSpec

NS = 10**9
RATES = [Fraction(2), Fraction(1, 2), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(1, 10), Fraction(60)]
specs = st.builds(
    DecodeSpec, fps=st.sampled_from(RATES), frames_per_clip=st.integers(1, 16), max_clips=st.integers(1, 40)
)
starts = st.integers(0, 3600 * NS)
spans = st.integers(1, 120 * NS)


@given(specs, starts, spans)
def test_every_clip_has_its_frames_and_none_lies_outside_its_span(spec, start, span):
    plan = plan_clips(start, start + span, spec)
    assert 1 <= len(plan) <= spec.max_clips
    for clip in plan:
        assert len(clip.t_ns) == spec.frames_per_clip
        assert start <= clip.start_ns == clip.t_ns[0]
        assert list(clip.t_ns) == sorted(clip.t_ns)
        assert clip.t_ns[-1] < clip.exclusive_end_ns <= start + span


@given(specs, starts, spans)
def test_times_are_floored_multiples_of_the_exact_step_and_only_the_last_clip_repeats(spec, start, span):
    plan = plan_clips(start, start + span, spec)
    clip_ns = spec.frames_per_clip * NS / spec.fps
    spread = span / clip_ns > spec.max_clips
    stride = Fraction(span, spec.max_clips) if spread else clip_ns
    first = start + ((stride - clip_ns) / 2 if spread else 0)
    for index, clip in enumerate(plan):
        exact = [first + index * stride + k / spec.fps * NS for k in range(spec.frames_per_clip)]
        inside = [int(t) for t in exact if t < start + span]
        assert list(clip.t_ns[: len(inside)]) == inside
        assert set(clip.t_ns[len(inside) :]) <= {inside[-1]}
        assert len(inside) == spec.frames_per_clip or index == len(plan) - 1


@given(specs, starts, spans)
def test_clips_follow_one_another_without_a_gap_unless_there_are_too_many(spec, start, span):
    plan = plan_clips(start, start + span, spec)
    wanted = ceil(span / (spec.frames_per_clip * NS / spec.fps))
    assert len(plan) == min(wanted, spec.max_clips)
    for clip, following in pairwise(plan):
        if wanted <= spec.max_clips:
            assert clip.exclusive_end_ns == following.start_ns
        else:
            assert clip.exclusive_end_ns <= following.start_ns
    if wanted <= spec.max_clips:
        assert (plan[0].start_ns, plan[-1].exclusive_end_ns) == (start, start + span)


@given(specs, starts, spans)
def test_too_many_clips_lie_in_the_centres_of_equal_partitions(spec, start, span):
    plan = plan_clips(start, start + span, spec)
    if ceil(span / (spec.frames_per_clip * NS / spec.fps)) <= spec.max_clips:
        return
    for index, clip in enumerate(plan):
        left = clip.start_ns - (start + Fraction(index * span, spec.max_clips))
        right = start + Fraction((index + 1) * span, spec.max_clips) - clip.exclusive_end_ns
        assert left >= -1
        assert abs(left - right) <= 2  # ns, of two floors


def test_worked_examples():
    spec = DecodeSpec(max_clips=3)
    ms = 10**6
    times = [[t // ms for t in clip.t_ns] for clip in plan_clips(0, 5 * NS, spec)]
    assert times == [[0, 500, 1000, 1500], [2000, 2500, 3000, 3500], [4000, 4500, 4500, 4500]]
    assert [clip.t_ns for clip in plan_clips(7, 8, spec)] == [(7, 7, 7, 7)]  # shorter than a step
    spread = plan_clips(0, 30 * NS, spec)  # partitions of 10 s, clips of 2 s: 4 s left and right
    assert [(c.start_ns // NS, c.exclusive_end_ns // NS) for c in spread] == [(4, 6), (14, 16), (24, 26)]
    thirds = plan_clips(0, NS, DecodeSpec(fps=3, frames_per_clip=3))
    assert thirds[0].t_ns == (0, 333_333_333, 666_666_666)


@pytest.mark.parametrize("span", [(5, 5), (6, 5), (-1, 5)])
def test_an_empty_span_has_no_plan(span):
    with pytest.raises(ValueError, match="empty span"):
        plan_clips(*span, DecodeSpec())
