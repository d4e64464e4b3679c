"""Laws of the released frame numbers: golden vectors of the released function, and what they have in common."""

from fractions import Fraction
from itertools import chain, pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode.released import released_indices

NTSC = [Fraction(n * 1000, 1001) for n in (12, 15, 24, 30, 48, 60, 120)]
COMMON = [*map(Fraction, (8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)), *NTSC, Fraction(25, 2)]
RATES = [Fraction(rate) for rate in range(1, 61)] + NTSC

# fps, frames, ratio -> number of clips, the first of them; recorded from the released function.
GOLDEN = [
    ("30", 210, "1", 4, [[0, 15, 30, 45], [50, 65, 80, 95], [100, 115, 130, 145], [150, 165, 180, 195]]),
    ("25", 250, "1", 5,
     [[1, 13, 25, 37], [51, 63, 75, 87], [101, 113, 125, 137], [151, 163, 175, 187], [201, 213, 225, 237]]),
    ("29.97", 600, "1", 11, [[0, 14, 28, 42], [54, 68, 82, 96], [108, 122, 136, 150]]),
    ("30000/1001", 600, "1", 11, [[0, 14, 28, 42], [54, 68, 82, 96], [108, 122, 136, 150]]),
    ("24", 84, "1", 2, [[0, 12, 24, 36], [36, 48, 60, 72]]),
    ("30", 30, "1", 1, [[0, 15, 29, 29]]),
    ("30", 20, "1", 1, [[0, 15, 19, 19]]),
    ("30", 1, "1", 1, [[0, 0, 0, 0]]),
    ("30", 1800, "3/10", 9, [[70, 85, 100, 115], [270, 285, 300, 315], [470, 485, 500, 515]]),
    ("60", 600, "1", 5, [[0, 30, 60, 90], [120, 150, 180, 210], [240, 270, 300, 330]]),
    ("15", 45, "1", 2, [[0, 7, 14, 21], [17, 24, 31, 38]]),
    ("12", 120, "1", 5, [[0, 6, 12, 18], [24, 30, 36, 42]]),
    ("2", 10, "1", 3, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]),
    ("1", 8, "1", 4, [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5], [6, 6, 7, 7]]),
    ("25", 97, "1", 2, [[0, 12, 24, 36], [49, 61, 73, 85]]),
    ("3/2", 9, "1", 3, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]),
    ("1", 20, "3/10", 3, [[0, 0, 1, 1], [9, 9, 10, 10], [18, 18, 19, 19]]),
    ("3/4", 6, "1", 4, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
    ("1/2", 3, "1", 3, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]]),
]  # fmt: skip


def apollo(fps, frames, ratio=1):
    """At Apollo's settings: clips of 4 frames that stand for 2 s."""
    return released_indices(Fraction(fps), frames, Fraction(2), 4, Fraction(ratio))


@pytest.mark.parametrize(("fps", "frames", "ratio", "count", "first"), GOLDEN)
def test_golden_vectors_of_the_released_function(fps, frames, ratio, count, first):
    clips = apollo(fps, frames, ratio)
    assert len(clips) == count
    assert [list(clip) for clip in clips[: len(first)]] == first


def test_longer_clips_of_slow_films_are_the_released_ones_up_to_the_frames_they_should_have():
    assert released_indices(Fraction(3, 5), 6, Fraction(4), 8) == (
        (0,) * 4 + (1,) * 4,
        (2,) * 4 + (3,) * 4,
        (4,) * 4 + (5,) * 4,
    )
    # Recorded: four times each of five frames, where 16 are a clip.
    assert released_indices(Fraction(1, 2), 10, Fraction(10), 16)[1] == (5,) * 4 + (6,) * 4 + (7,) * 4 + (8,) * 4


@given(st.sampled_from(RATES), st.integers(1, 2500), st.fractions(Fraction(1, 100), 1))
def test_every_clip_has_its_frames_ascending_inside_the_film(fps, frames, ratio):
    clips = apollo(fps, frames, ratio)
    for clip in clips:
        assert len(clip) == 4
        assert list(clip) == sorted(clip)
    assert 0 <= min(chain(*clips)) <= max(chain(*clips)) < frames


@given(
    st.fractions(Fraction(1, 10), 130), st.integers(1, 2500), st.fractions(Fraction(1, 10), 10), st.integers(1, 64)
)
def test_clips_of_any_length_are_whole_and_inside_the_film(fps, frames, duration, frames_per_clip):
    try:
        clips = released_indices(fps, frames, duration, frames_per_clip)
    except ValueError:
        assert fps * duration < 1
        return
    assert {len(clip) for clip in clips} == {frames_per_clip}
    assert 0 <= min(chain(*clips)) <= max(chain(*clips)) < frames


@given(st.sampled_from(COMMON), st.integers(1, 20_000))
def test_exact_numbers_give_what_the_released_floats_give_at_common_rates(fps, frames):
    clips = apollo(fps, frames)
    assert len(clips) == ceil(frames / float(fps) / 2)
    step = max(1, int(float(fps) / 2))
    if frames >= 4 * step:
        assert {after - before for clip in clips for before, after in pairwise(clip)} == {step}


@given(st.sampled_from(RATES), st.integers(1, 2500), st.fractions(Fraction(1, 100), 1))
def test_clips_lie_at_equal_distances_and_in_the_centres_of_partitions_that_are_longer(fps, frames, ratio):
    clips = apollo(fps, frames, ratio)
    starts = [clip[0] for clip in clips]
    distances = {after - before for before, after in pairwise(starts)}
    length, partition = 4 * max(1, int(fps / 2)), frames // len(clips)
    if fps > 1 and partition > length:
        assert distances <= {partition}
        left, right = starts[0], partition - length - starts[0]
        assert left <= right <= left + 1
    else:
        assert starts[0] == 0
        assert len(distances) <= 1


@pytest.mark.parametrize("fps", ["3/10", "49/100", "0", "-1"])
def test_a_film_with_less_than_a_frame_a_clip_is_refused_with_its_rate_and_the_mend(fps):
    with pytest.raises(ValueError, match=rf"^{float(Fraction(fps)):g} frames a second .* by fps or uniform$"):
        apollo(fps, 5)


@pytest.mark.parametrize(("frames", "ratio"), [(0, 1), (5, 0), (5, 2)])
def test_no_frames_or_a_ratio_out_of_bounds_are_refused(frames, ratio):
    with pytest.raises(ValueError, match=f"{frames} frames, ratio {ratio}"):
        apollo(30, frames, ratio)
