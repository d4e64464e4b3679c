"""Laws of runs: every bound is held, no cut could come later, and what stands before a cut decides it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.cuts import Bound, runs

SIZES = st.lists(st.integers(0, 50), max_size=60)
BOUNDS = st.builds(Bound, st.integers(1, 9), st.integers(1, 80))


def cut(sizes, bound, starts=(), free_from=0):
    return list(runs(sizes, int, bound, starts, free_from))


@given(SIZES, BOUNDS)
def test_runs_hold_both_bounds_in_order_unless_one_thing_is_too_large_by_itself(sizes, bound):
    found = cut(sizes, bound)
    assert [size for run in found for size in run] == sizes
    assert all(run for run in found)
    assert all(len(run) <= bound.most for run in found)
    assert all(sum(run) <= bound.size or len(run) == 1 for run in found)


@given(SIZES, BOUNDS)
def test_no_run_could_have_taken_the_next_thing_too(sizes, bound):
    found = cut(sizes, bound)
    for run, after in pairwise(found):
        assert len(run) == bound.most or sum(run) + after[0] > bound.size


@given(SIZES, SIZES, BOUNDS)
def test_what_is_added_behind_leaves_every_run_but_the_last_as_it_was(sizes, more, bound):
    before, after = cut(sizes, bound), cut(sizes + more, bound)
    assert after[: max(0, len(before) - 1)] == before[:-1]


@given(SIZES, BOUNDS, st.sets(st.integers(1, 60)))
def test_given_starts_are_kept_whatever_the_sizes_and_the_rest_is_cut_as_if_nothing_stood_before(
    sizes, bound, starts
):
    last = max((start for start in starts if start < len(sizes)), default=0)
    found = cut(sizes, bound, starts, last)
    at = [sum(map(len, found[:number])) for number in range(len(found))]
    assert [start for start in at if start <= last] == sorted({0, *(s for s in starts if s <= last)})[: len(at)]
    assert [run for start, run in zip(at, found, strict=True) if start >= last] == cut(sizes[last:], bound)


def test_a_run_that_is_full_by_number_is_given_out_before_the_next_thing_is_taken():
    taken = []
    found = runs((taken.append(n) or 1 for n in range(9)), int, Bound(3, 99))
    next(found)
    assert len(taken) == 3
