from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.train.schedule import batches, learning_rate_factor, order, stream

positions_ = st.lists(st.integers(0, 10_000), unique=True, max_size=60)


@given(positions_, st.integers(0, 5))
def test_an_order_is_a_shuffle_that_hangs_on_seed_stage_and_epoch_alone(positions, seed):
    one = order(seed, "1-align", 0, positions)
    assert sorted(one) == sorted(positions)
    assert one == order(seed, "1-align", 0, positions[::-1])


def test_another_seed_stage_or_epoch_gives_another_order():
    orders = [order(*salt, range(100)) for salt in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]]
    assert len({tuple(o) for o in orders}) == 4
    assert orders[0] != list(range(100))


@given(positions_, st.integers(0, 10_000))
def test_samples_keep_their_order_when_another_leaves(positions, gone):
    kept = [p for p in positions if p != gone]
    assert order(0, "a", 0, kept) == [p for p in order(0, "a", 0, positions) if p != gone]


@pytest.mark.parametrize(("epochs", "seen"), [("1/4", 2), ("1", 10), ("5/2", 25), ("3", 30)])
def test_epochs_are_counted_exactly(epochs, seen):
    found = list(stream(0, "a", Fraction(epochs), range(10)))
    assert len(found) == seen
    for start in range(0, seen, 10):
        epoch = found[start : start + 10]
        assert len(set(epoch)) == len(epoch)


@given(st.lists(st.integers(0, 50), max_size=100), st.integers(1, 7))
def test_batches_keep_the_order_and_only_the_last_is_small(positions, size):
    found = list(batches(iter(positions), size))
    assert [position for batch in found for position in batch] == positions
    assert all(len(batch) == size for batch in found[:-1])


def test_the_rate_rises_to_full_within_the_warm_up_and_falls_to_nothing_on_a_cosine():
    rates = [learning_rate_factor(step, 100, 0.03) for step in range(100)]
    assert rates[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
    assert rates[51] == pytest.approx(0.5, abs=0.01)  # 3 + 97 / 2 = 51.5
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_without_a_warm_up_the_first_step_is_at_full_rate():
    assert learning_rate_factor(0, 10, 0.0) == 1.0
