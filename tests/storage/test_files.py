"""Laws of files: whole or absent, and never taken for what they were before they changed."""

import errno
import os
from pathlib import Path

import pytest

from pipeline.storage.files import ATTEMPT_PREFIX, attempt_path, commit, copy, link, published, stamp


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "folder" / "file"
    with published(path) as attempt:
        attempt.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with published(path) as attempt:
            attempt.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_every_file_of_a_folder_is_on_the_disk_before_the_folder_has_its_name(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    attempt = attempt_path(target)
    (attempt / "inner").mkdir(parents=True)
    (attempt / "inner" / "file").write_text("content")
    synced = []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: synced.append((Path(f"/proc/self/fd/{handle}").readlink().name, target.exists())),
    )
    commit(attempt, target)
    names = [name for name, named in synced if not named]
    assert {"file", "inner"} <= set(names)
    assert names[-1].startswith(ATTEMPT_PREFIX)
    assert synced[-1] == (tmp_path.name, True)


def test_attempts_never_share_a_name(tmp_path):
    assert len({attempt_path(tmp_path / "file") for _ in range(100)}) == 100


def test_a_stamp_changes_with_size_and_time_of_any_file(tmp_path):
    assert stamp(tmp_path / "absent") == []
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    seen = [stamp(tmp_path)]
    (tmp_path / "a").write_text("three")
    seen.append(stamp(tmp_path))
    os.utime(tmp_path / "b", ns=(1, 1))
    seen.append(stamp(tmp_path))
    assert len({str(state) for state in seen}) == 3
    assert stamp(tmp_path / "b") == [["b", 3, 1]]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
def test_a_link_is_a_copy_where_the_file_system_has_no_links(tmp_path, monkeypatch, number):
    source, target = tmp_path / "one", tmp_path / "folder" / "two"
    source.write_bytes(b"bytes" * 10_000)
    link(source, target)
    assert target.samefile(source)

    def refuse(*_):
        raise OSError(number, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    link(source, tmp_path / "three")
    assert (tmp_path / "three").read_bytes() == source.read_bytes()
    assert not (tmp_path / "three").samefile(source)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS])
def test_a_copy_is_whole_where_the_kernel_cannot_make_it_and_wherever_it_left_off(tmp_path, monkeypatch, number):
    source = tmp_path / "one"
    source.write_bytes(bytes(range(256)) * 1000)
    kernel, calls = os.copy_file_range, []

    def refuse(reader, writer, count):
        calls.append(count)
        if len(calls) > 1:
            raise OSError(number, "not between these two")
        return kernel(reader, writer, 1000)

    monkeypatch.setattr(os, "copy_file_range", refuse)
    copy(source, tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == source.read_bytes()
    monkeypatch.setattr(os, "copy_file_range", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        copy(source, tmp_path / "three")
