"""Torch's workers give the order that one process gives, resume with it, and never leave a consumer waiting."""

import os
import pickle
import signal
from itertools import islice

import numpy as np
import pytest
import shard_factory as made
import torch

from pipeline.shards.loader import MixtureLoader
from pipeline.shards.reader import ShardError, ShardReader
from pipeline.shards.stream import MixtureStream

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
BATCH = 6  # does not divide an epoch of 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("mixture")
    made.build(where)
    return where


def positions(batch):
    return [sample.position for sample in batch.samples]


def loader(folder, workers=0, rank=0, world=1, encoders=(), collate=positions, **settings):
    settings = {"global_batch": BATCH, "seed": 3, "shuffle_shards": 2, **settings}
    stream = MixtureStream(folder, "train", encoders, rank=rank, world_size=world, **settings)
    return MixtureLoader(stream, workers=workers, collate=collate)


def sequence(folder, world, workers, batches, state=None):
    """Positions of so many global batches of all ranks, and the one state that is left."""
    parts, states = [], []
    for rank in range(world):
        run = loader(folder, workers, rank, world)
        if state is not None:
            run.load_state_dict(state)
        parts.append(list(islice(run, batches)))
        states.append(run.state_dict())
    assert all(each == states[0] for each in states)
    return [p for step in zip(*parts, strict=True) for part in step for p in part], states[0]


@pytest.fixture(scope="module")
def whole(folder):
    found, _ = sequence(folder, 1, 0, 20)
    assert [sorted(epoch.tolist()) for epoch in np.split(np.array(found), [40, 80])[:2]] == [list(range(40))] * 2
    return found


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_any_number_of_ranks_and_workers_gives_one_order(folder, whole, world, workers):
    assert sequence(folder, world, workers, 8)[0] == whole[: 8 * BATCH]


@pytest.mark.parametrize("runs", [[(1, 4), (2, 3), (4, 1)], [(4, 2), (1, 1), (2, 4)], [(2, 1), (4, 3), (1, 0)]])
def test_it_resumes_on_other_numbers_of_both_inside_an_epoch_and_past_its_end(folder, whole, runs):
    found, state, at = [], None, []
    for (world, workers), batches in zip(runs, (4, 7, 9), strict=True):
        part, state = sequence(folder, world, workers, batches, state)
        found += part
        at.append((state["epoch"], state["position"]))
    assert found == whole
    assert at == [(0, 24), (1, 26), (3, 0)]


def test_batches_that_workers_have_ready_do_not_count(folder, whole):
    run = loader(folder, workers=3)
    first = [p for batch in islice(run, 2) for p in batch]  # the workers have read on
    assert (run.state_dict()["epoch"], run.state_dict()["position"]) == (0, 12)
    assert first + [p for batch in islice(run, 3) for p in batch] == whole[: 5 * BATCH]


def test_workers_end_with_the_last_epoch(folder, whole):
    for workers in (0, 1, 3):
        found = [p for batch in loader(folder, workers, epochs=2) for p in batch]
        assert found == whole[:80]


def as_tensors(batch):
    return [(sample.key, torch.from_numpy(sample.features["siglip"])) for sample in batch.samples]


def test_what_a_worker_collates_reaches_the_consumer(folder):
    reader = ShardReader(folder, "train")
    for batch in islice(loader(folder, 2, encoders=["siglip"], collate=as_tensors), 7):
        for key, features in batch:
            stored = reader.read(reader.position(key), ["siglip"]).features["siglip"]
            np.testing.assert_array_equal(features.numpy(), stored)


def test_without_a_collation_the_batch_itself_comes(folder):
    batches = [next(iter(loader(folder, workers, encoders=made.NAMES, collate=None))) for workers in (0, 2)]
    assert batches[0].state == batches[1].state
    for one, other in zip(*(batch.samples for batch in batches), strict=True):
        assert pickle.dumps(one) == pickle.dumps(other)


def test_the_trainings_own_random_numbers_are_left_alone(folder):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(islice(loader(folder, 2), 3))
    assert torch.equal(torch.rand(3), expected)


def test_a_broken_shard_in_a_worker_is_an_error_with_its_name(folder, tmp_path):
    made.build(tmp_path)
    (tmp_path / "shards/train-000002.tar").unlink()
    with pytest.raises(ShardError, match=r"shards/train-000002\.tar, sample train-"):
        list(loader(tmp_path, 2, epochs=1))


@pytest.mark.slow
def test_what_workers_skip_is_counted_where_it_is_consumed(tmp_path):
    made.build(tmp_path)
    (tmp_path / "shards/train-000002.tar").unlink()
    counts = []
    for workers in (0, 1, 3):
        run = loader(tmp_path, workers, epochs=1, on_broken="skip")
        assert sum(map(len, run)) == 28
        counts.append(run.skipped)
    assert [len(skipped) for skipped in counts] == [12] * 3
    assert counts[0] == counts[1] == counts[2]


def process(batch):
    return os.getpid()


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_is_an_error_and_no_hang(folder, which):
    run = iter(loader(folder, 2, collate=process))
    os.kill(next(run), which)
    with pytest.raises(RuntimeError, match=r"DataLoader worker .* (exited unexpectedly|is killed by signal)"):
        list(run)  # it would never end
