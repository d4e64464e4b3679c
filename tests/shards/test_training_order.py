"""The order is a function of seed, epoch and place, and holds at every place what the stored order holds there."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.apportion import apportion
from pipeline.plan.order import interleave
from pipeline.shards import order as order_module
from pipeline.shards.order import Order, OrderSpec
from schemas.sample import Modality

SHARES = {Modality.TEXT: 14, Modality.IMAGE: 33, Modality.MULTI_IMAGE: 17, Modality.VIDEO: 36}
FIXED = [167, 216, 344, 239, 504, 540, 506, 201, 233, 199]


@st.composite
def mixtures(draw):
    """Shards of any size, empty ones among them, and a modality for each sample."""
    shards = draw(st.lists(st.integers(0, 30), min_size=1, max_size=12))
    codes = draw(st.lists(st.integers(0, 3), min_size=sum(shards), max_size=sum(shards)))
    return np.array(shards, np.int64), np.array(codes, np.uint8)


specs = st.builds(
    OrderSpec,
    seed=st.integers(0, 2**64 - 1),
    shuffle=st.booleans(),
    shuffle_shards=st.integers(1, 5),
    balance=st.sampled_from(["modality", "none"]),
)


def stored(samples, per_shard=50):
    """A stored order as a plan makes it, in shards of one size."""
    counts = apportion(samples, SHARES)
    codes = np.array([list(Modality).index(m) for m in interleave(counts)], np.uint8)
    return np.array([len(part) for part in np.split(codes, range(per_shard, samples, per_shard))], np.int64), codes


@given(mixtures(), specs, st.integers(0, 2**40))
def test_an_epoch_meets_each_sample_once_and_keeps_the_modality_of_each_place(mixture, spec, epoch):
    shards, codes = mixture
    whole = Order(spec, shards, codes).positions(epoch, 0, len(codes))
    assert sorted(whole.tolist()) == list(range(len(codes)))
    if spec.balance == "modality":
        np.testing.assert_array_equal(codes[whole], codes)


@given(mixtures(), specs, st.data())
def test_a_place_alone_is_as_in_the_whole(mixture, spec, data):
    shards, codes = mixture
    whole = Order(spec, shards, codes).positions(3, 0, len(codes))
    start = data.draw(st.integers(0, len(codes)))
    stop = data.draw(st.integers(start, len(codes)))
    fresh = Order(spec, shards, codes)
    fresh.positions(2, 0, len(codes))  # what was asked before leaves no trace
    np.testing.assert_array_equal(fresh.positions(3, start, stop), whole[start:stop])


@given(mixtures(), specs, st.sets(st.integers(0, 3)))
def test_chosen_samples_alone_are_met_in_the_same_way(mixture, spec, wanted):
    shards, codes = mixture
    chosen = np.flatnonzero(np.isin(codes, list(wanted)))
    order = Order(spec, shards, codes, chosen)
    whole = order.positions(1, 0, len(order))
    assert sorted(whole.tolist()) == chosen.tolist()
    if spec.balance == "modality":
        np.testing.assert_array_equal(codes[whole], codes[chosen])


def test_places_over_the_blocks_that_are_looked_up_at_once_are_in_one_sequence(monkeypatch):
    shards, codes = stored(1000)
    whole = Order(OrderSpec(5), shards, codes).positions(1, 0, 1000)
    monkeypatch.setattr(order_module, "BLOCK", 7)
    small = Order(OrderSpec(5), shards, codes)
    np.testing.assert_array_equal(small.positions(1, 0, 1000), whole)
    for start, stop in [(0, 7), (6, 8), (13, 41), (995, 1000), (14, 21), (30, 30)]:
        np.testing.assert_array_equal(small.positions(1, start, stop), whole[start:stop])


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_prefix_is_within_one_and_whole_batches_are_exact(epoch):
    shards, codes = stored(2000)
    whole = Order(OrderSpec(3, shuffle_shards=4), shards, codes).positions(epoch, 0, 2000)
    for code, modality in enumerate(Modality):
        met = np.cumsum(codes[whole] == code)
        share = (np.arange(2000) + 1) * int((codes == code).sum()) / 2000
        assert np.abs(met - share).max() < 1
        # 100 places hold a whole number of each share: each such batch holds exactly that.
        assert set(np.diff(met[99::100]).tolist()) == {SHARES[modality]}


def test_seed_and_epoch_change_the_order_and_nothing_else_does():
    shards, codes = stored(600)
    orders = [
        Order(OrderSpec(seed), shards, codes).positions(epoch, 0, 600).tolist()
        for seed, epoch in [(0, 0), (1, 0), (0, 1), (2**64 - 1, 0)]
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert Order(OrderSpec(0), shards, codes).positions(0, 0, 600).tolist() == orders[0]


def test_the_order_is_the_one_that_was_fixed_once():
    """A state of an older version must go on where it was: no new NumPy may move a sample."""
    shards, codes = stored(600)
    assert Order(OrderSpec(7, shuffle_shards=3), shards, codes).positions(2, 300, 310).tolist() == FIXED


def test_without_shuffle_it_is_the_stored_order():
    shards, codes = stored(600)
    assert Order(OrderSpec(7, shuffle=False), shards, codes).positions(4, 0, 600).tolist() == list(range(600))


def test_a_few_shards_are_in_use_at_a_time():
    shards, codes = stored(20_000)  # 400 shards of 50
    whole = Order(OrderSpec(1, shuffle_shards=8), shards, codes).positions(0, 0, 20_000)
    used = [len(np.unique(whole[start : start + 100] // 50)) for start in range(0, 20_000, 100)]
    assert max(used) <= 3 * 8
    assert np.abs(np.diff(np.unique(whole[:50] // 50))).max() > 8  # and not those beside each other


def test_an_order_travels_small_and_equal():
    shards, codes = stored(600)
    order = Order(OrderSpec(7), shards, codes)
    before = order.positions(1, 0, 600).tolist()
    packed = pickle.dumps(order)
    assert pickle.loads(packed).positions(1, 0, 600).tolist() == before  # noqa: S301
    assert len(packed) < 600 * 17 + 4000


def test_places_outside_an_epoch_are_refused():
    shards, codes = stored(600)
    with pytest.raises(IndexError, match="places 590 to 601 of an epoch of 600 samples"):
        Order(OrderSpec(), shards, codes).positions(0, 590, 601)


@pytest.mark.parametrize("settings", [{"seed": -1}, {"seed": 2**64}, {"shuffle_shards": 0}, {"balance": "source"}])
def test_settings_that_decide_no_order_are_refused(settings):
    with pytest.raises(ValueError, match=f"self.{next(iter(settings))} = "):
        OrderSpec(**settings)
