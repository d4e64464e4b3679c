"""From an object store comes what comes from a disk, through faults of the store, within the bound of memory."""

import threading
from itertools import islice
from tarfile import BLOCKSIZE

import numpy as np
import pytest
import shard_factory as made
from botocore.loaders import create_loader
from store_server import BUCKET, running_store, settings

from pipeline.shards import payloads
from pipeline.shards.index import read_index
from pipeline.shards.loader import MixtureLoader
from pipeline.shards.reader import ShardError, ShardReader
from pipeline.shards.runs import RUN_BYTES
from pipeline.shards.stream import MixtureStream
from pipeline.storage.client import forget
from pipeline.storage.faults import StoreError
from pipeline.storage.places import S3Path
from schemas.ledger import Ledger

COLUMN = "internvideo2"
PLACE = S3Path(BUCKET, "a/mixture")
LOADER = create_loader()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    where = tmp_path_factory.mktemp("joined")
    made.build_with_column(where)
    return where / "mixture"


@pytest.fixture(scope="module")
def server():
    with running_store() as store:
        yield store


@pytest.fixture
def store(server, local, tmp_path, monkeypatch):
    """Running, holding the mixture, and found by the code under test."""
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in settings(server, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    server.empty()
    forget()
    for path in local.rglob("*"):
        if path.is_file():
            server.put(f"a/mixture/{path.relative_to(local).as_posix()}", path.read_bytes())
    yield server
    for thread in threading.enumerate():  # those of a test that failed a reading go on for a moment
        if thread.name.startswith("prefetch"):
            thread.join(20)
    forget()


def stream(folder, **options):
    return MixtureStream(
        folder, "train", made.NAMES, **{"global_batch": 8, "shuffle_shards": 2, "frames": True, **options}
    )


def assert_equal(found, expected):
    assert found.state == expected.state
    assert [s.json for s in found.samples] == [s.json for s in expected.samples]
    for one, other in zip(found.samples, expected.samples, strict=True):
        for arrays, others in ((one.features, other.features), (one.frames, other.frames)):
            assert list(arrays) == list(others)
            for name, array in arrays.items():
                np.testing.assert_array_equal(array, others[name])


@pytest.mark.parametrize("ahead", [0, 20_000, None])
def test_a_store_gives_what_the_disk_gives(store, local, ahead):
    for found, expected in zip(stream(PLACE, prefetch_bytes=ahead, epochs=1), stream(local, epochs=1), strict=True):
        assert_equal(found, expected)


@pytest.mark.parametrize(("run_bytes", "requests"), [(0, 40), (RUN_BYTES, 4)])
def test_a_sample_takes_one_request_a_tar_and_so_do_all_that_lie_in_a_row(store, monkeypatch, run_bytes, requests):
    monkeypatch.setattr("pipeline.shards.stream.RUN_BYTES", run_bytes)
    run = stream(PLACE, global_batch=1, shuffle=not run_bytes, epochs=1)
    store.asked.clear()
    list(run)
    own = [path for path in store.gets(".tar") if COLUMN not in path]
    assert len(own) == requests
    assert len(store.gets(".tar")) == 2 * requests


@pytest.mark.parametrize(("run_bytes", "least"), [(0, 90), (RUN_BYTES, 70)])
def test_faults_in_between_change_nothing(store, local, monkeypatch, run_bytes, least):
    monkeypatch.setattr("pipeline.shards.stream.RUN_BYTES", run_bytes)
    state = {"count": 0}

    def now_and_then(environ):
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".tar"):
            state["count"] += 1
            if state["count"] % 5 == 0:
                return "503 Slow Down", "<Error><Code>SlowDown</Code></Error>"
            if state["count"] % 7 == 0:
                store.cut += 1
        return None

    run = stream(PLACE, epochs=1)
    store.before = now_and_then
    for found, expected in zip(run, stream(local, epochs=1), strict=True):
        assert_equal(found, expected)
    assert state["count"] > least


def test_workers_read_from_a_store(store, local):
    batches = islice(MixtureLoader(stream(PLACE), workers=2), 7)
    for found, expected in zip(batches, stream(local), strict=False):
        assert_equal(found, expected)


@pytest.mark.parametrize("run_bytes", [0, RUN_BYTES])
def test_no_more_is_asked_for_than_fits_the_bound(store, monkeypatch, run_bytes):
    monkeypatch.setattr("pipeline.shards.stream.RUN_BYTES", run_bytes)
    asked, read = [], payloads.StoredTar.read
    block = BLOCKSIZE if run_bytes else 1  # a run reads what fills up the blocks between samples, too

    def noted(tar, start, size):
        asked.append(-(-size // block) * block)
        return read(tar, start, size)

    monkeypatch.setattr(payloads.StoredTar, "read", noted)
    options = {"global_batch": 1, "shuffle": not run_bytes, "epochs": 1}
    one_by_one = [sum(asked) for _ in stream(PLACE, prefetch_bytes=0, **options)]
    asked.clear()
    ahead = [
        sum(asked) - taken
        for taken, _ in zip(one_by_one, stream(PLACE, prefetch_bytes=60_000, **options), strict=True)
    ]
    assert 30_000 < max(ahead) <= 60_000 + (block - 1) * len(made.NAMES)


def test_an_object_that_is_not_there_is_a_broken_shard(store):
    store.client.delete_object(Bucket=BUCKET, Key="a/mixture/shards/train-000001.tar")
    with pytest.raises(ShardError, match=r"shards/train-000001\.tar, sample train-"):
        list(stream(PLACE, epochs=1))
    run = stream(PLACE, epochs=1, on_broken="skip")
    assert sum(len(batch.samples) for batch in run) == 28
    assert len(run.skipped) == 12


def test_a_store_that_refuses_is_no_broken_shard(store):
    run = stream(PLACE, epochs=1, on_broken="skip")
    store.refuse("403 Forbidden", "AccessDenied")
    with pytest.raises(StoreError, match="no permission"):
        list(run)
    assert run.skipped == []


def test_an_object_that_ends_early_is_named(store, local):
    data = (local / "shards/train-000001.tar").read_bytes()
    store.put("a/mixture/shards/train-000001.tar", data[: len(data) // 2])
    with pytest.raises(ShardError, match=rf"shards/train-000001\.tar, sample .* ends at byte {len(data) // 2}"):
        list(stream(PLACE, epochs=1))


def test_the_reader_reads_from_a_store_what_it_reads_from_the_disk(store, local):
    assert Ledger.read(PLACE) == Ledger.read(local)
    assert read_index(PLACE, "train").equals(read_index(local, "train"))
    stored, expected = ShardReader(PLACE, "train"), ShardReader(local, "train")
    assert stored.positions(["video"]) == expected.positions(["video"])
    for position in (39, 3, 17):
        one, other = (reader.read(position, made.NAMES, frames=True) for reader in (stored, expected))
        assert one.sample == other.sample
        assert stored.position(one.sample.key) == position
        for name in made.NAMES:
            np.testing.assert_array_equal(one.features[name], other.features[name])
            np.testing.assert_array_equal(one.frames[name], other.frames[name])


def test_a_place_that_holds_no_mixture_is_told(store):
    with pytest.raises(ShardError, match=r"s3://models/b has no index\.parquet and no ledger\.json"):
        stream(S3Path(BUCKET, "b"))
