"""Laws of the time grid."""

from fractions import Fraction
from itertools import chain, pairwise
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode.grid import plan_clips, plan_released
from pipeline.decode.released import released_indices
from schemas.media import DecodeSpec

NS = 10**9
RATES = [Fraction(2), Fraction(1, 2), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(1, 10), Fraction(60)]
specs = st.builds(
    DecodeSpec, fps=st.sampled_from(RATES), frames_per_clip=st.integers(1, 16), max_clips=st.integers(1, 40)
)
starts = st.integers(0, 3600 * NS)
spans = st.integers(1, 120 * NS)


def uniform(spec):
    return spec.model_copy(update={"sampling": "uniform"})


def film(rate, frames):
    """Presentation times of a film of constant rate, floored to a nanosecond."""
    return [floor(number * NS / Fraction(rate)) for number in range(frames)]


RELEASED = DecodeSpec(sampling="released_compat")
film_rates = st.sampled_from([Fraction(r) for r in (1, 2, 15, 24, 25, 30, 60)] + [Fraction(30000, 1001)])


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


@given(specs, starts, spans)
def test_uniform_times_are_the_floored_centres_of_equal_parts_of_any_span(spec, start, span):
    plan = plan_clips(start, start + span, uniform(spec))
    assert len(plan) == spec.max_clips
    assert {len(clip.t_ns) for clip in plan} == {spec.frames_per_clip}
    times = list(chain.from_iterable(clip.t_ns for clip in plan))
    part = Fraction(span, len(times))
    assert times == [floor(start + (number + Fraction(1, 2)) * part) for number in range(len(times))]


@given(specs, starts, spans)
def test_uniform_times_are_symmetric_about_the_middle_of_the_span(spec, start, span):
    times = list(chain.from_iterable(clip.t_ns for clip in plan_clips(start, start + span, uniform(spec))))
    for early, late in zip(times, reversed(times), strict=True):
        assert 0 <= (2 * start + span) - (early + late) < 2  # ns, of two floors


@given(specs, starts, spans)
def test_uniform_clips_hold_their_times_and_tile_the_span(spec, start, span):
    plan = plan_clips(start, start + span, uniform(spec))
    for clip in plan:
        assert start <= clip.start_ns <= clip.t_ns[0] <= clip.t_ns[-1] < clip.exclusive_end_ns <= start + span
    assert (plan[0].start_ns, plan[-1].exclusive_end_ns) == (start, start + span)
    if span >= 2 * spec.max_clips * spec.frames_per_clip:
        assert all(clip.exclusive_end_ns == following.start_ns for clip, following in pairwise(plan))


def test_uniform_worked_example():
    spec = DecodeSpec(sampling="uniform", max_clips=2, frames_per_clip=2)
    plan = plan_clips(NS, 9 * NS, spec)
    assert [[t // NS for t in clip.t_ns] for clip in plan] == [[2, 4], [6, 8]]
    assert [(clip.start_ns // NS, clip.exclusive_end_ns // NS) for clip in plan] == [(1, 5), (5, 9)]


@given(film_rates, st.integers(1, 2500), st.integers(1, 40))
def test_released_clips_of_a_whole_film_are_the_frames_of_the_released_code_and_no_more_than_allowed(
    rate, frames, most
):
    times, spec = film(rate, frames), RELEASED.model_copy(update={"max_clips": most})
    plan = plan_released(times, rate, 0, ceil(frames * NS / rate), spec)
    wanted = ceil(frames / rate / 2)
    ratio = Fraction(1) if wanted <= most else Fraction(most * 2) * rate / frames
    assert len(plan) == min(wanted, most)
    expected = released_indices(rate, frames, Fraction(2), 4, ratio)
    assert [clip.t_ns for clip in plan] == [tuple(times[number] for number in clip) for clip in expected]


jumpy = st.lists(st.integers(0, 60 * NS), min_size=1, max_size=200).map(lambda times: [0, *sorted(times)])


@given(jumpy, film_rates, st.integers(0, 60 * NS), st.integers(1, 60 * NS), specs)
def test_released_clips_of_a_span_are_of_frames_that_begin_in_it_and_end_with_their_last(
    times, rate, start, span, spec
):
    if rate * spec.frames_per_clip / spec.fps < 1:
        return
    end = start + span
    plan = plan_released(times, rate, start, end, spec)
    shown = {t for t in times if start <= t < end} or {start}
    assert 1 <= len(plan) <= spec.max_clips
    for clip in plan:
        assert len(clip.t_ns) == spec.frames_per_clip
        assert list(clip.t_ns) == sorted(clip.t_ns)
        assert set(clip.t_ns) <= shown
        assert clip.start_ns == clip.t_ns[0]
        assert clip.exclusive_end_ns == min(chain([end], (t for t in shown if t > clip.t_ns[-1])))


@given(film_rates, st.integers(1, 600), st.integers(1, 600), st.integers(0, 600))
def test_a_span_is_planned_like_a_film_of_its_frames_alone(rate, before, inside, behind):
    times = film(rate, before + inside + behind)
    start, end = times[before], floor((before + inside) * NS / rate)
    plan = plan_released(times, rate, start, end, RELEASED)
    alone = plan_released(times[before : before + inside], rate, 0, end, RELEASED)
    assert plan == alone


@pytest.mark.parametrize(
    ("frames", "most", "expected"),
    [
        (210, 25, [(0.0, 1.5), (1.67, 3.17)]),
        (1800, 9, [(2.33, 3.83), (9.0, 10.5)]),
    ],  # recorded from the released code
)
def test_first_and_last_times_of_clips_are_the_released_time_stamps(frames, most, expected):
    spec = RELEASED.model_copy(update={"max_clips": most})
    plan = plan_released(film(30, frames), Fraction(30), 0, frames * NS // 30, spec)
    assert [(round(c.t_ns[0] / NS, 2), round(c.t_ns[-1] / NS, 2)) for c in plan[:2]] == expected


def test_released_clips_may_overlap_so_times_over_all_clips_need_not_ascend():
    first, second = plan_released(film(15, 45), Fraction(15), 0, 3 * NS, RELEASED)
    assert first.t_ns[-1] > second.t_ns[0]
    assert first.exclusive_end_ns > second.start_ns


def test_frames_are_sampled_by_number_and_times_cannot_tell_it():
    with pytest.raises(ValueError, match="call plan_released"):
        plan_clips(0, NS, RELEASED)


@pytest.mark.parametrize("span", [(5, 5), (6, 5), (-1, 5)])
def test_an_empty_span_has_no_released_plan(span):
    with pytest.raises(ValueError, match="empty span"):
        plan_released([0, 1], Fraction(30), *span, RELEASED)
