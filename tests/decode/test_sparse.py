"""Laws of the plan: it names the frame shown at each tick, and sends no packet behind the last one needed."""

from bisect import bisect_right
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode.packets import Gop
from pipeline.decode.sparse import Unplannable, plan


def gop(*pts, whole=True):
    return Gop(packets=[SimpleNamespace(pts=p) for p in pts], pts=list(pts), whole=whole)


@st.composite
def films(draw):
    """GOPs in the order of decoding: keyframe, leading pictures (open GOPs), P-frames before their B-frames."""
    gops, now = [], 0
    for number in range(draw(st.integers(1, 4))):
        leading = draw(st.integers(0, 3)) if number else 0
        packets = [now + leading, *range(now, now + leading)]
        now += leading + 1
        for b_frames in draw(st.lists(st.integers(0, 3), max_size=4)):
            packets += [now + b_frames, *range(now, now + b_frames)]
            now += b_frames + 1
        gops.append(packets)
    times = sorted(draw(st.sets(st.integers(-50, 500), min_size=now, max_size=now)))
    hidden = draw(st.sets(st.integers(0, now - 1), max_size=2)) - {packets[0] for packets in gops}
    return [
        Gop([SimpleNamespace(pts=times[p]) for p in packets], [None if p in hidden else times[p] for p in packets])
        for packets in gops
    ]


@given(film=films(), asked=st.lists(st.integers(0, 600), min_size=1))
def test_the_plan_names_the_frame_shown_at_each_tick_and_sends_just_what_it_needs(film, asked):
    shown = sorted(pts for one in film for pts in one.pts if pts is not None)
    ticks = sorted(shown[0] + tick for tick in asked)
    steps = list(plan(iter(film), ticks))

    told = [pair for step in steps for pair in step.asked]
    assert told == [(tick, shown[bisect_right(shown, tick) - 1]) for tick in ticks]
    assert {pts for _, pts in told} == {pts for step in steps for pts in step.targets}
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        sent = step.gop.pts[: step.end]
        assert step.targets <= set(sent)
        leading = {pts for pts in following.targets if pts < following.gop.key_pts} if following else set()
        assert step.leads_on == bool(leading)
        if step.leads_on:
            assert step.end == len(step.gop.packets)
        else:
            assert step.end == 0 or sent[-1] in step.targets
    assert [step.last for step in steps] == [step.gop is film[-1] for step in steps]


def test_gops_behind_the_last_tick_are_read_one_ahead_and_no_further():
    film = iter([gop(0, 1), gop(2, 3), gop(4, 5), gop(6, 7)])
    list(plan(film, [0]))
    assert [one.pts for one in film] == [[4, 5], [6, 7]]


@pytest.mark.parametrize(
    "film",
    [
        [gop(0, 1, 1)],
        [gop(0, 1, whole=False)],
        [gop(0, 1), gop(2, 3, whole=False)],
        [gop(0, 5), gop(3, 4)],
        [gop(10, 11), gop(0, 1)],
        [Gop([SimpleNamespace(pts=0)], [None])],
    ],
    ids=["equal times", "no time", "no time ahead", "GOPs overlap", "time runs back", "nothing shown"],
)
def test_packets_that_do_not_tell_what_is_shown_are_not_planned_with(film):
    with pytest.raises(Unplannable):
        list(plan(iter(film), [0, 20]))


def test_a_tick_before_the_first_frame_is_not_guessed_at():
    with pytest.raises(Unplannable):
        list(plan(iter([gop(5, 6)]), [4]))
