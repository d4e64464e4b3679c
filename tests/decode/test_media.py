"""Laws of opening: a plain, non-empty file inside its root, or a reason."""

import os
from pathlib import Path

import pytest

from pipeline.decode.media import BadMedia, open_plain
from schemas.rejection import Reason


def reason_of(root, path):
    with pytest.raises(BadMedia) as caught:
        open_plain(str(root), path)
    assert caught.value.detail
    return caught.value.reason


def test_a_plain_file_opens_also_through_links_that_stay_inside(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "film").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a/film")
    (tmp_path / "root").symlink_to(tmp_path)
    for root, path in ((tmp_path, "a/film"), (tmp_path, "link"), (tmp_path / "root", "link")):
        with open_plain(str(root), path) as file:
            assert file.read() == b"x"


def test_what_leads_out_of_the_root_is_unsafe(tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to("../secret")
    (tmp_path / "root" / "up").symlink_to("..")
    (tmp_path / "rooted").mkdir()
    (tmp_path / "rooted" / "film").write_bytes(b"x")
    for path in ("link", "up/secret", "../secret", "../rooted/film", str(tmp_path / "secret")):
        assert reason_of(tmp_path / "root", path) is Reason.UNSAFE_PATH


def test_a_pipe_a_folder_and_a_device_are_no_media(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert reason_of(tmp_path, "pipe") is Reason.NOT_MEDIA
    assert reason_of(tmp_path, "folder") is Reason.NOT_MEDIA
    assert reason_of("/dev", "null") is Reason.NOT_MEDIA


def test_missing_and_empty_files_are_told_apart(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert reason_of(tmp_path, "empty") is Reason.EMPTY_FILE
    for path in ("nothing", "empty/nothing", "x" * 300, "nul\0byte", "loop"):
        assert reason_of(tmp_path, path) is Reason.MISSING_FILE


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path):
    (tmp_path / "empty").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    reason_of(tmp_path, "empty")
    reason_of(tmp_path, ".")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
