"""Global batches are cut from the endless sequence of epochs by arithmetic alone."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards.batches import Batching, Cursor

sizes = st.integers(1, 40)
START = Cursor(0, 0)


def places(pieces):
    return [(epoch, place) for epoch, start, end in pieces for place in range(start, end)]


def cut(samples, batch, epoch_end, epochs=3, start=START):
    return list(Batching(samples, batch, epoch_end, epochs).batches(start))


@given(sizes, sizes)
def test_joined_batches_are_full_but_the_last_and_every_sample_comes_once_an_epoch(samples, batch):
    batches = [places(b.pieces) for b in cut(samples, batch, "join")]
    assert [p for b in batches for p in b] == [(e, p) for e in range(3) for p in range(samples)]
    assert {len(b) for b in batches[:-1]} <= {batch}


@given(sizes, sizes)
def test_short_batches_end_each_epoch_and_every_sample_comes_once(samples, batch):
    batches = [places(b.pieces) for b in cut(samples, batch, "short")]
    assert [p for b in batches for p in b] == [(e, p) for e in range(3) for p in range(samples)]
    assert all(len({epoch for epoch, _ in b}) == 1 for b in batches)
    assert len(batches) == 3 * -(-samples // batch)


@given(sizes, sizes)
def test_dropped_is_only_what_does_not_fill_a_batch(samples, batch):
    if samples < batch:
        with pytest.raises(ValueError, match="is never full in an epoch"):
            cut(samples, batch, "drop")
        return
    batches = [places(b.pieces) for b in cut(samples, batch, "drop")]
    kept = samples // batch * batch
    assert [p for b in batches for p in b] == [(e, p) for e in range(3) for p in range(kept)]
    assert {len(b) for b in batches} == {batch}


@given(sizes, sizes, st.sampled_from(["join", "short", "drop"]), st.integers(1, 9))
def test_ranks_share_each_batch_evenly_in_order_and_without_gaps(samples, batch, epoch_end, world):
    for each in cut(samples, min(batch, samples), epoch_end):
        parts = [places(each.of_rank(rank, world)) for rank in range(world)]
        assert [p for part in parts for p in part] == places(each.pieces)
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1


@given(sizes, sizes, st.sampled_from(["join", "short", "drop"]), st.data())
def test_after_any_batch_it_goes_on_as_it_would_have(samples, batch, epoch_end, data):
    batches = cut(samples, min(batch, samples), epoch_end)
    done = data.draw(st.integers(1, len(batches)))
    assert cut(samples, min(batch, samples), epoch_end, start=batches[done - 1].after) == batches[done:]


def test_without_a_number_of_epochs_it_never_ends():
    batches = list(islice(Batching(3, 2).batches(Cursor(10**12, 2)), 4))
    assert places(batches[0].pieces) == [(10**12, 2), (10**12 + 1, 0)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((5, 0), "self.global_batch = 0"),
        ((0, 4), "no sample of the split fits"),
        ((5, 4, "pad"), "self.epoch_end = 'pad'"),
    ],
)
def test_settings_that_make_no_batch_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Batching(*settings)
