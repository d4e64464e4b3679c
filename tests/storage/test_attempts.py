"""Laws of attempts in a store: workers upload, the driver alone commits, and what was killed is never seen."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from pipeline.storage import retries
from pipeline.storage.attempts import S3Attempt
from pipeline.storage.files import attempt_path, commit, published, remains, remove_tree
from pipeline.storage.writing import INLINE_BYTES

SIZES = [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 9 * 2**20]
WORKER = """
import pickle, sys
attempt = pickle.loads(sys.stdin.buffer.read())
with attempt.open("xb") as file:
    for _ in range(int(sys.argv[1])):
        file.write(b"w" * 2**20)
sys.stdout.buffer.write(pickle.dumps(attempt))
"""


def worker(attempt, mebibytes):
    """What a process returns that was given the attempt before it was written."""
    command = [sys.executable, "-c", WORKER, str(mebibytes)]
    done = subprocess.run(command, input=pickle.dumps(attempt), stdout=subprocess.PIPE, timeout=60, check=True)
    return pickle.loads(done.stdout)  # noqa: S301


@pytest.mark.parametrize("size", SIZES)
def test_an_attempt_is_the_object_once_it_is_committed_and_not_before(proxied, size):
    path = proxied.folder / "file"
    path.write_bytes(b"old")
    attempt = attempt_path(path)
    body = os.urandom(size)
    attempt.write_bytes(body)
    assert (attempt.stat().st_size, path.read_bytes()) == (size, b"old")
    commit(attempt, path)
    assert path.read_bytes() == body
    assert remains(proxied.folder) == []


@pytest.mark.parametrize("mebibytes", [0, 20])
def test_a_worker_uploads_what_the_driver_commits(proxied, mebibytes):
    path = proxied.folder / "file"
    attempt = attempt_path(path)
    returned = worker(attempt, mebibytes)
    assert returned == attempt
    assert not path.exists()
    commit(returned, path)
    assert path.read_bytes() == b"w" * mebibytes * 2**20


def test_of_two_workers_of_one_job_the_committed_one_alone_is_seen(proxied):
    path = proxied.folder / "file"
    slow, fast = (worker(attempt_path(path), count) for count in (9, 10))
    commit(fast, path)
    assert path.stat().st_size == 10 * 2**20
    slow.unlink()
    assert path.stat().st_size == 10 * 2**20
    assert remains(proxied.folder) == []


def test_nothing_is_committed_that_was_not_written_or_is_of_another_place(proxied):
    path = proxied.folder / "file"
    attempt = attempt_path(path)
    with pytest.raises(FileNotFoundError, match="nothing was written"):
        commit(attempt, path)
    attempt.write_bytes(b"x")
    with pytest.raises(ValueError, match="is no attempt of"):
        commit(attempt, proxied.folder / "other")
    with pytest.raises(OSError, match="before it is whole"):
        attempt.open("rb")
    assert not path.exists()


def test_a_second_writing_of_an_attempt_takes_the_place_of_the_first(proxied):
    path = proxied.folder / "file"
    with published(path) as attempt:
        attempt.write_bytes(b"a" * 9 * 2**20)
        attempt.write_bytes(b"b" * 10 * 2**20)
        assert [left.size for left in remains(proxied.folder)] == [10 * 2**20]
    assert path.read_bytes() == b"b" * 10 * 2**20


def test_a_killed_attempt_is_never_seen_and_is_found_and_removed(proxied):
    path = proxied.folder / "file"
    (proxied.folder / "other").write_bytes(b"kept")
    code = WORKER.replace("sys.stdout", "import time; time.sleep(60); sys.stdout")
    killed = subprocess.Popen([sys.executable, "-c", code, "17"], stdin=subprocess.PIPE)
    killed.stdin.write(pickle.dumps(attempt_path(path)))
    killed.stdin.close()
    deadline = time.monotonic() + 30
    while not (left := remains(proxied.folder)) or left[0].size < 17 * 2**20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (left,) = remains(proxied.folder)
    assert (str(left.place), left.files, left.size) == (str(path), 1, 17 * 2**20)
    assert not path.exists()
    assert remains(proxied.folder / "elsewhere") == []
    remove_tree(left.place)
    assert remains(proxied.folder) == []
    assert [p.name for p in proxied.folder.iterdir()] == ["other"]


def test_an_upload_that_went_away_is_told_with_the_mend(proxied, monkeypatch):
    monkeypatch.setattr(retries, "ATTEMPTS", 2)
    path = proxied.folder / "file"
    attempt = attempt_path(path)
    attempt.write_bytes(b"x" * 9 * 2**20)
    for left in remains(proxied.folder):
        remove_tree(left.place)
    # moto answers such a completion with a 500
    words = r"its upload went away .*mixture clean.*run the same command again|failed time and again"
    with pytest.raises(OSError, match=words):
        commit(attempt, path)
    assert not path.exists()


def test_local_remains_are_found_with_their_sizes_too(tmp_path):
    (tmp_path / "inner").mkdir()
    file, folder = attempt_path(tmp_path / "inner" / "file"), attempt_path(tmp_path / "folder")
    file.write_bytes(b"123")
    folder.mkdir()
    (folder / "a").write_bytes(b"12345")
    (tmp_path / "kept").write_bytes(b"x")
    assert {(left.place, left.files, left.size) for left in remains(tmp_path)} == {(file, 1, 3), (folder, 1, 5)}
    for left in remains(tmp_path):
        remove_tree(left.place)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inner", "kept"]


def test_an_attempt_costs_no_request_until_it_is_written(proxied):
    attempt = attempt_path(proxied.folder / "file")
    assert isinstance(attempt, S3Attempt)
    assert attempt.parent == proxied.folder
    assert not attempt.exists()
    attempt.unlink(missing_ok=True)
    assert proxied.log == []
    attempt.write_bytes(b"small")
    assert proxied.log == []
    commit(attempt, proxied.folder / "file")
    assert [operation for operation, *_ in proxied.log][:1] == ["Put"]
