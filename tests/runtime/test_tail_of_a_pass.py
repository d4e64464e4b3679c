"""The end of a pass: no worker waits for another much longer than one part, whatever order films come in."""

import heapq
from collections import Counter
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stages import Upper, toy_sample

from flows.build import FEATURES_COST, FEATURES_PART
from pipeline.plan.cost import cost_of
from pipeline.runtime.passes import Cost, Pass
from pipeline.runtime.pools import longest_first
from schemas.media import DecodeSpec
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample

SECOND_NS = 10**9
SPEC = DecodeSpec(max_clips=200)


def film(number, seconds, width=1280, height=720):
    medium = {"kind": "video", "path": f"{number}.mp4", "width": width, "height": height}
    return sample(number, Modality.VIDEO, [MediaRef(**medium, duration_ns=seconds * SECOND_NS)])


def sample(number, modality, media=()):
    return Sample(
        key=f"k{number}",
        source="s",
        modality=modality,
        category=Category.CAPTIONING,
        media=media,
        annotations=[Caption(text="A caption.")],
        licence="CC0-1.0",
        annotator=Generator(name="human"),
    )


def cost(each):
    return cost_of(each, SPEC, 2)


def jobs(samples, folder, by_cost=True):
    rule = Cost(cost, 1, FEATURES_COST) if by_cost else None
    return Pass("features", (Upper(),), None, samples, (), FEATURES_PART, cost=rule).jobs(folder)


def makespan(parts, workers):
    """When the last of a pool's workers is done; whoever is free takes the next part."""
    free = [0] * workers
    for part in parts:
        heapq.heapreplace(free, free[0] + sum(map(cost, part.inputs)))
    return max(free)


def bound(samples, workers):
    """All evenly dealt out, and one part more: of the bound, or one film that is more by itself."""
    costs = [cost(each) for each in samples]
    return Fraction(sum(costs), workers) + max(FEATURES_COST, *costs)


FILMS = st.lists(st.tuples(st.integers(1, 7200), st.sampled_from([320, 1280, 3840])), min_size=1, max_size=80)


@settings(deadline=None, max_examples=50)
@given(FILMS, st.integers(1, 16))
def test_a_pass_ends_within_one_part_of_an_even_share(tmp_path_factory, films, workers):
    samples = [film(number, seconds, width, width * 9 // 16) for number, (seconds, width) in enumerate(films)]
    parts = jobs(samples, tmp_path_factory.getbasetemp())
    assert all(len(part.inputs) == 1 or part.cost <= FEATURES_COST for part in parts)
    assert all(len(part.inputs) <= FEATURES_PART for part in parts)
    assert [each.key for part in parts for each in part.inputs] == [each.key for each in samples]
    assert makespan(longest_first(parts), workers) <= bound(samples, workers)


def test_parts_of_a_fixed_number_break_the_bound_where_long_films_stand_together(tmp_path):
    samples = [film(number, 20) for number in range(640)] + [film(640 + n, 7200) for n in range(16)]
    old, new = jobs(samples, tmp_path, by_cost=False), jobs(samples, tmp_path)
    assert makespan(old, 16) > bound(samples, 16) >= makespan(longest_first(new), 16)


def test_the_costliest_begin_and_equal_ones_keep_their_order():
    costs = [3, 9, 1, 9, 3]
    order = longest_first([SimpleNamespace(cost=cost, number=n) for n, cost in enumerate(costs)])
    assert [job.number for job in order] == [1, 3, 0, 4, 2]


def test_an_ordinary_mixture_is_still_cut_by_number(tmp_path):
    samples = [film(number, 30) for number in range(64)]
    assert Counter(len(part.inputs) for part in jobs(samples, tmp_path)) == {FEATURES_PART: 4}


def test_cost_grows_with_duration_pixels_and_encoders_and_a_text_costs_nothing():
    assert cost(sample(0, Modality.TEXT)) == 0
    assert cost(film(0, 20)) > cost(film(0, 10)) > 0
    assert cost(film(0, 20, 1920, 1080)) > cost(film(0, 20))
    assert cost_of(film(0, 20), SPEC, 3) > cost(film(0, 20))
    picture = sample(0, Modality.IMAGE, [MediaRef(kind="image", path="a.jpg", width=640, height=480)])
    assert 0 < cost(picture) < cost(film(0, 2))
    # decoded around its clips alone, however long it is
    assert cost(film(0, 10_000)) == cost(film(0, 100_000))


def test_a_span_of_a_film_costs_what_a_film_of_that_length_does():
    medium = film(0, 600).media[0]
    part = medium.model_copy(update={"start_ns": 60 * SECOND_NS, "exclusive_end_ns": 90 * SECOND_NS})
    assert cost(film(0, 600).model_copy(update={"media": (part,)})) == cost(film(0, 30))


@pytest.mark.parametrize("other", [Cost(cost, 2, FEATURES_COST), Cost(cost, 1, 7), None])
def test_how_parts_are_cut_is_in_the_fingerprint_and_costs_nothing_to_know(other):
    def of(_):
        raise AssertionError("read for a fingerprint")

    def work(rule):
        return Pass("features", (Upper(),), None, [toy_sample("a")], (), 16, cost=rule).work.fingerprint

    assert work(Cost(of, 1, FEATURES_COST)) != work(other)
    assert work(Cost(of, 1, FEATURES_COST)) == work(Cost(cost, 1, FEATURES_COST))
