"""Floors and caps: the exact level that fills them, and integers that keep them."""

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.plan.apportion import apportion, shared

PART = st.tuples(st.fractions(0, 20, max_denominator=50), st.integers(0, 40), st.none() | st.integers(0, 80))
"""Weight, floor, cap."""


@st.composite
def divisions(draw):
    parts = {f"s{i}": part for i, part in enumerate(draw(st.lists(PART, min_size=1, max_size=6)))}
    weights = {name: weight for name, (weight, _, _) in parts.items()}
    floors = {name: floor if weight else 0 for name, (weight, floor, _) in parts.items()}
    caps = {name: max(cap, floors[name]) for name, (_, _, cap) in parts.items() if cap is not None}
    least = sum(floors.values())
    most = sum(caps.get(name, 200) for name, weight in weights.items() if weight)
    assume(any(weights.values()) and least <= most)
    return draw(st.integers(least, most)), weights, floors, caps


@given(divisions())
@settings(max_examples=300)
def test_bounded_parts_sum_to_the_total_keep_their_bounds_and_lie_within_one_of_a_common_level(division):
    total, weights, floors, caps = division
    exact, parts = shared(*division), apportion(*division)
    assert sum(parts.values()) == sum(exact.values()) == total
    for name, part in parts.items():
        assert floors[name] <= part <= caps.get(name, part)
        assert abs(part - exact[name]) < 1
    # Whoever is held by neither bound has the same share of its weight as all others that are not.
    free = {
        exact[name] / weight
        for name, weight in weights.items()
        if weight and floors[name] < exact[name] < caps.get(name, exact[name] + 1)
    }
    assert len(free) <= 1
    for level in free:
        for name, weight in weights.items():
            assert exact[name] == min(caps.get(name, 10**9), max(floors[name], level * weight))


def test_a_small_source_is_lifted_to_its_floor_and_a_large_one_held_at_its_cap():
    weights = {"a": Fraction(1), "b": Fraction(1), "c": Fraction(8)}
    assert apportion(100, weights) == {"a": 10, "b": 10, "c": 80}
    assert apportion(100, weights, {"a": 25}) == {"a": 25, "b": 8, "c": 67}  # 75 at 1 to 8: 8.33 and 66.67
    assert apportion(100, weights, {"a": 25}, {"c": 50}) == {"a": 25, "b": 25, "c": 50}


@pytest.mark.parametrize(
    ("total", "floors", "caps", "words"),
    [
        (10, {"a": 11}, {}, "the floors sum to 11, more than the 10"),
        (10, {}, {"a": 4, "b": 5}, "the caps sum to 9, less than the 10"),
        (10, {"a": 6}, {"a": 5}, "the floor of a lies above its cap"),
    ],
)
def test_bounds_that_cannot_make_the_total_are_refused(total, floors, caps, words):
    with pytest.raises(ValueError, match=words):
        apportion(total, {"a": Fraction(1), "b": Fraction(1)}, floors, caps)
