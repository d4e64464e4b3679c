"""A stream gives each sample as the shards hold it, in one order for every number of ranks, from any place."""

import json
import pickle
import shutil
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import shard_factory as made

from pipeline.shards import payloads
from pipeline.shards import stream as stream_module
from pipeline.shards.payloads import LocalTar
from pipeline.shards.reader import ShardError, ShardReader
from pipeline.shards.stream import MixtureStream
from schemas.base import InputError
from schemas.ledger import LEDGER
from schemas.sample import Category, Modality

COLUMN = "internvideo2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("mixture")
    made.build(where)
    return where


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    where = tmp_path_factory.mktemp("joined")
    made.build_with_column(where)
    return where / "mixture"


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "mixture")


def stream(folder, batch=8, encoders=made.NAMES, **settings):
    return MixtureStream(folder, "train", encoders, global_batch=batch, **{"shuffle_shards": 2, **settings})


def keys(batch):
    return [sample.key for sample in batch.samples]


def sequence(folder, world, batches, batch=8, state=None, **settings):
    """The keys of so many global batches, of all ranks, and the state after them, which is the same for all."""
    ranks = [stream(folder, batch, [], rank=rank, world_size=world, **settings) for rank in range(world)]
    for rank in ranks:
        if state is not None:
            rank.load_state_dict(state)
    parts = [[keys(b) for b in islice(rank, batches)] for rank in ranks]
    states = [rank.state_dict() for rank in ranks]
    assert all(each == states[0] for each in states)
    return [key for step in zip(*parts, strict=True) for part in step for key in part], states[0]


def assert_as_the_reader_has_it(sample, reader, names, frames):
    stored = reader.read(sample.position, names, frames)
    assert sample.key == stored.sample.key
    assert sample.json == json.loads(stored.sample.canonical())
    assert list(sample.features) == list(names)
    assert list(sample.frames) == (list(names) if frames else [])
    for name in names:
        assert sample.features[name].dtype == np.float16
        np.testing.assert_array_equal(sample.features[name], stored.features[name])
        if frames:
            np.testing.assert_array_equal(sample.frames[name], stored.frames[name])


@pytest.mark.parametrize("ahead", [0, 30_000])
@pytest.mark.parametrize("names", [made.NAMES, made.NAMES[::-1], ["internvideo2"], ["siglip"], []])
@pytest.mark.parametrize("frames", [False, True])
def test_every_sample_is_as_the_reader_has_it_once_an_epoch(folder, joined, names, frames, ahead):
    for where in (folder, joined):
        reader = ShardReader(where, "train")
        samples = [
            s for b in stream(where, 7, names, frames=frames, prefetch_bytes=ahead, epochs=1) for s in b.samples
        ]
        assert sorted(s.position for s in samples) == list(range(40))
        for sample in samples:
            assert_as_the_reader_has_it(sample, reader, names, frames)


def test_pictures_and_int8_come_as_the_reader_has_them(tmp_path):
    made.build(tmp_path, made.WITH_PICTURES)
    reader = ShardReader(tmp_path, "train")
    for batch in stream(tmp_path, frames=True, epochs=1):
        for sample in batch.samples:
            assert_as_the_reader_has_it(sample, reader, made.NAMES, frames=True)


def test_arrays_are_the_callers_own_for_as_long_as_they_are_held(folder):
    reader = ShardReader(folder, "train")
    held = [s for b in stream(folder, epochs=1) for s in b.samples]
    for sample in held:
        for array in sample.features.values():
            array += 1
    for sample in (s for b in stream(folder, epochs=2) for s in b.samples):
        assert_as_the_reader_has_it(sample, reader, made.NAMES, frames=False)
    for sample in held:
        stored = reader.read(sample.position, made.NAMES).features
        for name, array in sample.features.items():
            np.testing.assert_array_equal(array, stored[name] + np.float16(1))


def test_the_order_is_the_same_for_1_2_and_4_ranks_resumed_across_a_change_of_both(folder):
    whole, _ = sequence(folder, 1, 40)  # 320 samples: eight epochs of 40
    assert len(set(map(tuple, np.reshape(whole, (8, 40)).tolist()))) == 8
    for worlds in [(1, 2, 4), (4, 1, 2), (2, 4, 1), (3, 3, 5)]:
        found, state = [], None
        for world, batches in zip(worlds, (3, 9, 28), strict=True):  # 24 of 40, then past the ends of two epochs
            part, state = sequence(folder, world, batches, state=state)
            found += part
        assert found == whole
        assert (state["epoch"], state["position"]) == (8, 0)


@pytest.mark.parametrize("epoch_end", ["join", "short", "drop"])
def test_batches_that_do_not_divide_an_epoch_are_the_same_for_all_ranks(folder, epoch_end):
    whole, _ = sequence(folder, 1, 12, batch=9, epoch_end=epoch_end)
    assert len(whole) == {"join": 12 * 9, "short": 9 * 9 + 4 * 2 + 9, "drop": 12 * 9}[epoch_end]
    for world in (2, 4):
        first, state = sequence(folder, world, 5, batch=9, epoch_end=epoch_end)
        rest, _ = sequence(folder, 6 - world, 7, batch=9, epoch_end=epoch_end, state=state)
        assert first + rest == whole


def test_a_state_goes_on_with_another_global_batch(folder):
    whole, _ = sequence(folder, 1, 20)
    first, state = sequence(folder, 2, 7)
    rest, _ = sequence(folder, 1, 26, batch=4, state=state)
    assert first + rest == whole


def test_what_is_read_ahead_does_not_count(folder):
    run = stream(folder, prefetch_bytes=10**9)
    first = keys(next(iter(run)))
    again = stream(folder)
    again.load_state_dict(run.state_dict())
    assert first + keys(next(iter(again))) == sequence(folder, 1, 2)[0]


def test_every_global_batch_holds_exactly_its_shares(tmp_path):
    counts = {Modality.TEXT: 8, Modality.IMAGE: 16, Modality.MULTI_IMAGE: 8, Modality.VIDEO: 8}
    made.write_mixture(
        tmp_path,
        {"train": made.samples(counts, "train")},
        made.NAMES,
        made.WITHOUT_FRAMES,
        made.account(counts, {}),
    )
    for batch in islice(stream(tmp_path, 5), 40):
        met = [s.json["modality"] for s in batch.samples]
        assert {m: met.count(m) for m in counts} == {m: n // 8 for m, n in counts.items()}


def test_samples_of_chosen_modalities_and_categories_alone(folder):
    wanted = {"modalities": [Modality.VIDEO], "categories": [Category.TEMPORAL_PERCEPTION]}
    samples = [s for b in stream(folder, 3, epochs=2, **wanted) for s in b.samples]
    assert (
        len(samples)
        == 2 * len(stream(folder, **wanted))
        == 2 * len(ShardReader(folder, "train").positions(*wanted.values()))
    )
    assert {(s.json["modality"], s.json["category"]) for s in samples} == {("video", "temporal_perception")}


def test_a_state_is_small_plain_json(folder):
    run = stream(folder, modalities=[Modality.VIDEO, Modality.TEXT])
    next(iter(run))
    text = json.dumps(run.state_dict())
    assert len(text) < 400
    again = stream(folder, modalities=[Modality.TEXT, Modality.VIDEO])
    again.load_state_dict(json.loads(text))
    assert again.state_dict() == run.state_dict()


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"shuffle": False}, {"shuffle_shards": 3}, {"balance": "none"}, {"modalities": ["text"]}],
)
def test_a_state_of_another_order_is_refused(folder, change):
    (name,) = change
    with pytest.raises(InputError, match=f"not of this mixture and order: {name} is .* there and .* here"):
        stream(folder).load_state_dict(stream(folder, **change).state_dict())


def test_a_state_of_another_mixture_is_refused(folder, joined):
    with pytest.raises(InputError, match="root_sha256 is"):
        stream(folder).load_state_dict(stream(joined).state_dict())
    with pytest.raises(InputError, match="split is 'heldout' there"):
        stream(folder).load_state_dict(MixtureStream(folder, "heldout", [], global_batch=1).state_dict())


@pytest.mark.parametrize("change", [{"position": 41}, {"epoch": -1}, {"position": "3"}, {"position": None}])
def test_a_state_of_no_place_is_refused(folder, change):
    with pytest.raises(InputError, match="which an epoch of 40 samples has not"):
        stream(folder).load_state_dict({**stream(folder).state_dict(), **change})


def damage_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_gone(path):
    path.unlink()


def damage_moved(path):
    path.write_bytes(path.read_bytes()[512:])


def damage_json(path):
    path.write_bytes(path.read_bytes().replace(b'"key":"train-', b'"key":"other-'))


def damage_array(path):
    path.write_bytes(path.read_bytes().replace(b"'<f2'", b"'|O' "))


DAMAGES = [
    (damage_cut, "the tar ends at byte|cannot open"),
    (damage_gone, "cannot open"),
    (damage_moved, "not the one index.parquet was written for"),
    (damage_json, "its json is of other-"),
    (damage_array, "is not a plain npy file"),
]


@pytest.mark.parametrize("ahead", [0, 10**6])
@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_broken_shard_is_an_error_that_names_shard_and_key(copy, damage, message, ahead):
    damage(copy / "shards/train-000001.tar")
    with pytest.raises(ShardError, match=rf"shards/train-000001\.tar, sample train-.*: .*({message})"):
        list(stream(copy, prefetch_bytes=ahead, epochs=1))


@pytest.mark.parametrize("ahead", [0, 10**6])
@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_skipped_samples_are_counted_and_the_order_of_all_others_stays(folder, copy, damage, message, ahead):
    damage(copy / "shards/train-000001.tar")
    sound = [s.position for b in stream(folder, epochs=2) for s in b.samples]
    run = stream(copy, on_broken="skip", prefetch_bytes=ahead, epochs=2)
    batches = list(run)
    assert len(batches) == 10
    assert [len(b.samples) + len(b.skipped) for b in batches] == [8] * 10
    left_out = {s.position for s in run.skipped}
    assert left_out
    assert left_out <= set(range(12, 24))
    assert [s.position for b in batches for s in b.samples] == [p for p in sound if p not in left_out]
    assert len(run.skipped) == 2 * len(left_out)
    reader = ShardReader(folder, "train")
    for position, shard, key, reason in run.skipped:
        assert (shard, reader.position(key)) == ("shards/train-000001.tar", position)
        assert key in reason


def test_ranks_stay_in_step_when_one_skips(copy):
    damage_gone(copy / "shards/train-000001.tar")
    ranks = [list(stream(copy, on_broken="skip", rank=rank, world_size=4, epochs=2)) for rank in range(4)]
    assert {len(batches) for batches in ranks} == {10}
    for step in zip(*ranks, strict=True):
        assert len({json.dumps(b.state) for b in step}) == 1
    assert any(not b.samples for batches in ranks for b in batches)  # a batch of none is a batch


def test_a_broken_column_is_named_and_skipped(joined, tmp_path):
    mixture = shutil.copytree(joined, tmp_path / "mixture")
    damage_gone(mixture / f"shards/train-000001.{COLUMN}.tar")
    with pytest.raises(ShardError, match=rf"shards/train-000001\.{COLUMN}\.tar, sample"):
        list(stream(mixture, epochs=1))
    run = stream(mixture, on_broken="skip", epochs=1)
    assert sum(len(b.samples) for b in run) == 28
    assert {s.shard for s in run.skipped} == {"shards/train-000001.tar"}
    assert len(list(stream(mixture, 8, ["siglip"], epochs=1))) == 5  # and nobody misses it who did not ask for it


def test_a_fault_of_the_machine_is_never_skipped(folder, monkeypatch):
    def full(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("pipeline.shards.payloads.os.open", full)
    with pytest.raises(OSError, match="Too many open files"):
        list(stream(folder, on_broken="skip", epochs=1))


def test_bytes_of_encoders_that_nobody_asked_for_are_not_read(folder, monkeypatch):
    monkeypatch.setattr("pipeline.shards.payloads.GAP_BYTES", 0)
    apart = sum(located_bytes(folder, [name]) for name in made.NAMES)
    assert apart == located_bytes(folder, made.NAMES) + located_bytes(folder, [])  # the json is read both times
    monkeypatch.setattr("pipeline.shards.payloads.GAP_BYTES", 10**6)
    assert located_bytes(folder, ["internvideo2"]) > located_bytes(folder, ["siglip"])


def located_bytes(folder, names):
    """That an epoch reads, padding of tars left out."""
    sizes = []
    with pytest.MonkeyPatch.context() as patch:
        read = LocalTar.read
        patch.setattr(LocalTar, "read", lambda self, start, size: (sizes.append(size), read(self, start, size))[1])
        list(stream(folder, 8, names, epochs=1))
    return sum(sizes)


def test_few_tars_are_open_at_a_time(folder, monkeypatch):
    opened, closed = [], []
    monkeypatch.setattr(stream_module, "OPEN_TARS", 2)
    close = payloads.LocalTar.__del__
    monkeypatch.setattr(payloads.LocalTar, "__del__", lambda self: (closed.append(1), close(self)))
    real = payloads.open_tar
    monkeypatch.setattr(payloads, "open_tar", lambda *args: (opened.append(1), real(*args))[1])
    most = 0
    for _ in stream(folder, 1, epochs=2, shuffle_shards=4):
        most = max(most, len(opened) - len(closed))
    assert most <= 3
    assert len(opened) == len(closed)


def test_a_pickled_stream_goes_on_where_it_stood(folder):
    run = stream(folder)
    first = keys(next(iter(run)))
    again = pickle.loads(pickle.dumps(run))  # noqa: S301
    assert first + keys(next(iter(again))) == sequence(folder, 1, 2)[0]


def test_a_ledger_that_counts_other_samples_than_the_index_is_refused(copy):
    ledger = json.loads((copy / LEDGER).read_text())
    next(tar for tar in ledger["shards"] if tar["split"] == "train")["count"]["samples"] -= 1
    (copy / LEDGER).write_text(json.dumps(ledger))
    with pytest.raises(ShardError, match="the ledger counts 39 samples in the shards of train, the index 40"):
        stream(copy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank = 2 of world_size = 2"),
        ({"on_broken": "warn"}, "on_broken = 'warn'"),
        ({"encoders": ["clip"]}, r"has no clip\.npy, only json, siglip\.npy"),
        ({"modalities": ["text"], "categories": ["egocentric"]}, "no sample of the split fits"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        stream(folder, **settings)


def test_streaming_needs_no_torch():
    code = "import sys, pipeline.shards.stream; sys.exit('torch' in sys.modules or 'boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
