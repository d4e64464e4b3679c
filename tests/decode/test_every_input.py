"""The law of sparse decoding, over the film zoo: at each t it shows what a full decode shows, bit for bit."""

from functools import lru_cache
from itertools import pairwise
from math import floor
from unittest.mock import patch

import numpy as np
import pytest
from film_zoo import COUNT, ZOO, build
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decode import film as film_module
from pipeline.decode.film import Film
from pipeline.decode.grid import NS, plan_clips
from pipeline.decode.media import BadMedia, open_plain
from schemas.media import DecodeSpec

DECODED = [name for name, recipe in ZOO.items() if recipe.refused is None]
REFUSED = [name for name, recipe in ZOO.items() if recipe.refused is not None]
HIERARCHICAL = [name for name, recipe in ZOO.items() if recipe.hierarchical]
SPANS = {
    "fps": st.sampled_from(["2", "1/2", "7", "30000/1001"]),
    "start": st.floats(0, 0.95),
    "length": st.floats(0.05, 1),
    "seek_beyond_ns": st.sampled_from([0, NS // 2, 10 * NS]),
}


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zoo"))


@lru_cache(maxsize=1)
def full_decode(path):
    """Every frame that a viewer sees: [(pts in ns from the first, planes)], ascending; of equal times the last.

    AVI holds no pts, and libav's guesses at them may run backwards; frames come out at their dts there, and
    those drained at the end, which have none, one frame after another.
    """
    import av
    from av.stream import Disposition

    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        stream.codec_context.thread_count = 1
        by_dts = container.format.name == "avi"
        frames = [(f.dts if by_dts else f.pts, f.to_ndarray()) for f in container.decode(stream)]
        tick_ns, rate = stream.time_base * NS, stream.average_rate
    for k, (pts, planes) in enumerate(frames):
        if pts is None and by_dts:
            frames[k] = frames[k - 1][0] + round(NS / rate / tick_ns), planes
    times = [floor((pts - frames[0][0]) * tick_ns) for pts, _ in frames]
    assert times == sorted(times), "the oracle itself must be in order"
    following = [*times[1:], None]
    return [(t, planes) for t, (_, planes), after in zip(times, frames, following, strict=True) if t != after]


def shown(path, times_ns, spec=DecodeSpec(), seek_beyond_ns=10 * NS):  # noqa: B008 - frozen
    """[(pts_ns, planes)] of the frames shown at `times_ns`, and how many frames were decoded for them."""
    with (
        patch.object(film_module, "SEEK_BEYOND_NS", seek_beyond_ns),
        open_plain(str(path.parent), path.name) as file,
        Film(file, spec) as film,
    ):
        frames = []
        for frame in film.shown_at(times_ns):
            assert not frame.damaged or ZOO[path.name].spliced, f"a sound film, called damaged at {frame.pts_ns} ns"
            frames.append((frame.pts_ns, frame.picture.frame.to_ndarray()))
        return frames, film.decoded_frames


def assert_as_full_decode(path, fps, start, length, seek_beyond_ns):
    true = full_decode(path)
    end_ns = true[-1][0] + 1
    start_ns = int(start * (end_ns - 1))
    spec = DecodeSpec(fps=fps, max_clips=5)
    clips = plan_clips(start_ns, min(end_ns, start_ns + 1 + int(length * end_ns)), spec)
    times_ns = [t for clip in clips for t in clip.t_ns]
    frames, _ = shown(path, times_ns, spec, seek_beyond_ns)
    for t_ns, (pts_ns, planes) in zip(times_ns, frames, strict=True):
        true_pts_ns, true_planes = [frame for frame in true if frame[0] <= t_ns][-1]
        assert pts_ns == true_pts_ns, f"at {t_ns} ns"
        np.testing.assert_array_equal(planes, true_planes, f"at {t_ns} ns")


@pytest.mark.parametrize("name", DECODED)
@settings(max_examples=3)
@given(**SPANS)
def test_what_is_shown_is_what_a_full_decode_shows(zoo, name, fps, start, length, seek_beyond_ns):
    assert_as_full_decode(zoo[name], fps, start, length, seek_beyond_ns)


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODED)
@settings(max_examples=100)
@given(**SPANS)
def test_what_is_shown_is_what_a_full_decode_shows_for_many_spans(zoo, name, fps, start, length, seek_beyond_ns):
    assert_as_full_decode(zoo[name], fps, start, length, seek_beyond_ns)


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODED)
def test_each_frame_alone_is_the_one_of_a_full_decode(zoo, name):
    for pts_ns, planes in full_decode(zoo[name]):
        ((shown_ns, found),), _ = shown(zoo[name], [pts_ns], seek_beyond_ns=0)
        assert shown_ns == pts_ns
        np.testing.assert_array_equal(found, planes, f"at {pts_ns} ns")


@pytest.mark.parametrize("name", DECODED)
def test_the_frame_times_are_those_of_a_full_decode(zoo, name):
    with open_plain(str(zoo[name].parent), name) as file, Film(file, DecodeSpec()) as film:
        assert sorted(set(film.frame_times_ns())) == [pts_ns for pts_ns, _ in full_decode(zoo[name])]


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_fewer_frames_are_decoded_than_the_film_has(zoo, name):
    times_ns = [pts_ns for pts_ns, _ in full_decode(zoo[name])]
    assert shown(zoo[name], times_ns)[1] == COUNT  # the counter counts
    frames, decoded = shown(zoo[name], [k * NS // 2 for k in range(6)])
    assert len(frames) <= decoded <= 0.8 * COUNT


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shown_is_refused_for_its_reason(zoo, name):
    with pytest.raises(BadMedia) as caught:
        shown(zoo[name], [k * NS // 2 for k in range(12)])
    assert caught.value.reason is ZOO[name].refused


@pytest.mark.parametrize("name", DECODED)
def test_neighbouring_frames_of_the_zoo_differ(zoo, name):
    """Else a wrong frame would pass for the right one."""
    for (_, before), (pts_ns, after) in pairwise(full_decode(zoo[name])):
        assert before.shape != after.shape or np.abs(before.astype(int) - after).mean() > 1, f"at {pts_ns} ns"
