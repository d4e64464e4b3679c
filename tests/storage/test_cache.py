"""Laws of the cache of fetched objects."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from store_server import BUCKET

from pipeline.storage import cache
from pipeline.storage.cache import fetched
from pipeline.storage.objects import ObjectStore, Stored
from schemas.base import InputError
from schemas.stores import S3Url

URL = S3Url(BUCKET, "m/model.pt")
BODY = os.urandom(2**16)
FETCH = f"""
import sys
from pipeline.storage.cache import fetched
from pipeline.storage.objects import Stored
from schemas.stores import S3Url
stored = Stored(S3Url({BUCKET!r}, {URL.key!r}), {len(BODY)}, sys.argv[1], "")
print(fetched("weights", [stored]))
"""


@pytest.fixture
def stored(store):
    store.put(URL.key, BODY)
    found = ObjectStore().stat(URL)
    store.asked.clear()
    return found


def test_a_second_fetch_asks_the_store_nothing(store, stored):
    folder = fetched("weights", [stored])
    assert (folder / "model.pt").read_bytes() == BODY
    assert store.gets("model.pt")
    store.asked.clear()
    assert fetched("weights", [stored]) == folder
    assert not store.asked


def test_other_bytes_under_the_same_url_get_a_folder_of_their_own(store, stored):
    first = fetched("weights", [stored])
    store.put(URL.key, BODY[::-1])
    second = fetched("weights", [ObjectStore().stat(URL)])
    assert first != second
    assert (first / "model.pt").read_bytes() == BODY
    assert (second / "model.pt").read_bytes() == BODY[::-1]


def test_a_file_that_somebody_cut_short_is_fetched_again(store, stored):
    file = fetched("weights", [stored]) / "model.pt"
    file.write_bytes(BODY[:10])
    assert (fetched("weights", [stored]) / "model.pt").read_bytes() == BODY


def test_processes_that_fetch_at_once_all_get_it_and_one_fetches(store, stored):
    store.before = lambda environ: time.sleep(0.5) if environ["REQUEST_METHOD"] == "GET" else None
    command = [sys.executable, "-c", FETCH, stored.etag]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(folders) == 1
    assert (Path(folders.pop()) / "model.pt").read_bytes() == BODY
    assert len(store.gets("model.pt")) == 1


def test_what_a_killed_fetch_left_is_seen_by_nobody_and_goes_with_the_next(store, stored):
    reached, stalled = threading.Event(), threading.Event()

    def stall(environ):
        if environ["REQUEST_METHOD"] == "GET":
            reached.set()
            stalled.wait(20)

    store.before = stall
    killed = subprocess.Popen([sys.executable, "-c", FETCH, stored.etag])
    try:
        assert reached.wait(30)
    finally:
        killed.kill()
        killed.wait()
        stalled.set()
        store.before = lambda _: None
    folder = next((cache.cache_root() / "weights").glob("*[!k]"))
    assert folder.is_dir()
    assert not (folder / "model.pt").exists()
    (folder / ".attempt-0-model.pt").write_bytes(BODY[:7])
    assert fetched("weights", [stored]) == folder
    assert [path.name for path in folder.iterdir()] == ["model.pt"]


def test_what_is_there_is_taken_without_waiting_and_a_process_that_hangs_is_told_of(stored, monkeypatch):
    monkeypatch.setattr(cache, "WAIT_S", 0.2)
    folder = fetched("weights", [stored])
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        assert fetched("weights", [stored]) == folder
        (folder / "model.pt").unlink()
        with pytest.raises(InputError, match="end that process"):
            fetched("weights", [stored])


def test_a_cache_that_cannot_be_written_is_told_with_the_mend(stored, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"s3://models/m/model.pt cannot be kept in .*XDG_CACHE_HOME"):
        fetched("weights", [stored])


@pytest.mark.parametrize(("given", "expected"), [("/x", "/x"), ("", "/h/.cache"), ("relative", "/h/.cache")])
def test_the_cache_lies_where_the_specification_puts_it(monkeypatch, given, expected):
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache.cache_root() == Path(expected) / "video-mixture"


def test_a_user_without_a_home_is_told_the_mend(monkeypatch):
    def homeless():
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InputError, match="set XDG_CACHE_HOME"):
        fetched("weights", [Stored(URL, 1, '"e"', "")])
