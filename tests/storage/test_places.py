"""Laws of places: what holds for a local folder holds for one in a store."""

import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import reading
from pipeline.storage.client import client
from pipeline.storage.files import copy, link, published, read_range, remains, remove_tree, stamp, write_text
from pipeline.storage.places import S3Path, place
from schemas.base import InputError

PARTS = st.lists(st.text("abcXYZ019-_. é", min_size=1, max_size=6).filter(lambda p: p.strip(".")), max_size=4)
LARGE = os.urandom(21 * 2**20 + 7)
"""Three parts, and six blocks."""


@given(PARTS, PARTS)
def test_the_pure_part_is_that_of_pathlib(parts, more):
    ours, oracle = S3Path("bucket", "/".join(parts)), PurePosixPath("/", *parts)
    child, oracle_child = ours / "/".join(more), oracle / "/".join(more)
    assert str(child) == f"s3://bucket{str(oracle_child).rstrip('/')}"
    for name in ("name", "stem", "suffix"):
        assert getattr(child, name) == getattr(oracle_child, name)
    assert str(child.parent) == f"s3://bucket{str(oracle_child.parent).rstrip('/')}"
    assert child.relative_to(ours) == oracle_child.relative_to(oracle)
    assert child.is_relative_to(ours)
    assert ours.is_relative_to(child) == oracle.is_relative_to(oracle_child)
    if more:
        assert child.with_name("x").relative_to(child.parent) == PurePosixPath("x")
    assert pickle.loads(pickle.dumps(child)) == child  # noqa: S301
    assert place(str(child) + "/") == child


def test_places_sort_hash_and_keep_to_their_folder():
    a, b = S3Path("bucket", "a"), S3Path("bucket", "b")
    assert sorted([b, a]) == [a, b]
    assert len({a, S3Path("bucket", "a")}) == 1
    for odd in ("/abs", "..", "x/../../y"):
        with pytest.raises(ValueError, match="is no path under"):
            a / odd
    with pytest.raises(ValueError, match="is not under"):
        a.relative_to(b)
    with pytest.raises(TypeError):
        open(a)  # noqa: SIM115, PTH123


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", Path("a/b")),
        ("/a/b", Path("/a/b")),
        ("file:///a/b%20c", Path("/a/b c")),
        ("file://localhost/a", Path("/a")),
        (Path("x"), Path("x")),
        ("s3://bucket", S3Path("bucket")),
        ("s3://bucket/", S3Path("bucket")),
        ("s3://bucket/a/b", S3Path("bucket", "a/b")),
        ("s3://bucket/a/b/", S3Path("bucket", "a/b")),
        (S3Path("bucket", "a"), S3Path("bucket", "a")),
    ],
)
def test_a_place_is_a_path_a_file_url_or_an_s3_url(text, expected):
    assert place(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "file://host/a", "file:a", "file:///a?b", "gs://bucket/a", "https://me:Secret@host/a", "s3:/bucket/a",
        "s3://me:Secret@bucket/a", "s3://Bucket", "s3://bucket/../a", "s3://", "file://me:Secret@host/a?Secret",
    ],
)  # fmt: skip
def test_anything_else_is_bad_input_told_without_a_secret(text):
    with pytest.raises(InputError, match="expected") as told:
        place(text)
    assert "Secret" not in str(told.value)


def test_a_file_is_what_was_written_wherever_it_lies(folder):
    path = folder / "inner" / "file.bin"
    assert not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    for body in (b"", b"x", LARGE, b"shorter again"):
        path.write_bytes(body)
        assert path.read_bytes() == body
        assert path.stat().st_size == len(body)
        assert (path.is_file(), path.is_dir(), path.exists()) == (True, False, True)
    assert (folder / "inner").is_dir()
    assert not (folder / "inner").is_file()
    path.write_text("naïve\ntext", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "naïve\ntext"
    with path.open(encoding="utf-8") as lines:
        assert list(lines) == ["naïve\n", "text"]


def test_lists_and_patterns_find_the_same_files(folder):
    names = ["a.tar", "b.tar", "b.txt", "one/a.tar", "one/two/c.tar", "onetwo/d.tar"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())

    def found(paths):
        return sorted(path.relative_to(folder).as_posix() for path in paths)

    assert found(folder.iterdir()) == ["a.tar", "b.tar", "b.txt", "one", "onetwo"]
    assert found(folder.glob("*.tar")) == ["a.tar", "b.tar"]
    assert found(folder.glob("*/a.tar")) == ["one/a.tar"]
    assert found(folder.glob("one/*")) == ["one/a.tar", "one/two"]
    assert found(folder.glob("**/*.tar")) == [name for name in sorted(names) if name.endswith(".tar")]
    assert found(path for path in folder.rglob("*") if path.is_file()) == sorted(names)
    assert found(folder.rglob("two/*.tar")) == ["one/two/c.tar"]
    assert found(folder.glob("absent")) == []
    remove_tree(folder / "one")
    assert found(path for path in folder.rglob("*") if path.is_file()) == [
        "a.tar",
        "b.tar",
        "b.txt",
        "onetwo/d.tar",
    ]
    remove_tree(folder / "absent")


def test_a_file_moves_goes_and_is_missed_as_pathlib_has_it(folder):
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"body")
    new.write_bytes(b"overwritten")
    old.replace(new)
    assert (old.exists(), new.read_bytes()) == (False, b"body")
    new.unlink()
    new.unlink(missing_ok=True)
    for ask in (new.unlink, new.stat, new.read_bytes, lambda: read_range(new, 0, 1), lambda: new.replace(old)):
        with pytest.raises(FileNotFoundError):
            ask()


def test_what_is_to_be_new_is_not_written_over(folder):
    path = folder / "file"
    with path.open("xb") as file:
        file.write(b"first")
    with pytest.raises(FileExistsError):
        path.open("xb")
    assert path.read_bytes() == b"first"


def test_a_range_ends_where_the_file_does(folder):
    path = folder / "file"
    path.write_bytes(b"0123456789")
    assert read_range(path, 2, 3) == b"234"
    assert read_range(path, 8, 30) == b"89"
    assert read_range(path, 10, 5) == b""
    assert read_range(path, 3, 0) == b""
    path.write_bytes(b"")
    assert read_range(path, 0, 5) == b""


def test_a_reader_seeks_as_a_file_does(folder, tmp_path):
    path, oracle = folder / "file", tmp_path / "oracle"
    path.write_bytes(LARGE)
    oracle.write_bytes(LARGE)
    with path.open("rb") as ours, oracle.open("rb") as theirs:
        for position, count in [
            (0, 10),
            (5, 300_000),
            (2**23 - 3, 7),
            (2**20, 2**23),
            (len(LARGE) - 5, 99),
            (3, 1),
        ]:
            assert ours.seek(position) == theirs.seek(position)
            assert ours.read(count) == theirs.read(count)
            assert ours.tell() == theirs.tell()
        assert ours.seek(-7, os.SEEK_END) == theirs.seek(-7, os.SEEK_END)
        assert ours.read() == theirs.read()
        ours.seek(0)
        assert b"".join(iter(lambda: ours.read(100_003), b"")) == LARGE


@pytest.mark.parametrize("kinds", ["folder to disk", "disk to folder", "folder to folder"])
@pytest.mark.parametrize("way", [copy, link])
def test_a_copy_is_equal_in_any_direction(folder, tmp_path, kinds, way):
    source = tmp_path / "source" if kinds == "disk to folder" else folder / "source"
    target = tmp_path / "sub" / "target" if kinds == "folder to disk" else folder / "sub" / "target"
    source.write_bytes(LARGE)
    way(source, target)
    assert target.read_bytes() == LARGE


def test_a_stamp_changes_with_the_bytes(folder):
    assert stamp(folder / "absent") == []
    for name, body in (("a", b"one"), ("b", b"two")):
        (folder / name).write_bytes(body)
    before = stamp(folder)
    assert [row[:2] for row in before] == [["a", 3], ["b", 3]]
    (folder / "b").write_bytes(b"owt")
    os.utime(folder / "b", ns=(1, 1)) if isinstance(folder, Path) else None
    assert stamp(folder)[0] == before[0]
    assert stamp(folder)[1] != before[1]
    assert stamp(folder / "b") == stamp(folder)[1:]


def test_an_error_in_the_block_publishes_nothing_and_leaves_what_was_there(folder):
    path = folder / "file"
    write_text(path, "old")

    def fail(body):
        with published(path) as attempt, attempt.open("xb") as file:
            file.write(body)
            raise ZeroDivisionError

    for body in (b"new", LARGE):
        with pytest.raises(ZeroDivisionError):
            fail(body)
        assert path.read_bytes() == b"old"
    assert [p.name for p in folder.iterdir()] == ["file"]


def test_nothing_is_visible_before_the_close_nor_after_an_error(proxied):
    path = proxied.folder / "file"

    def fail():
        with path.open("wb") as file:
            file.write(LARGE[::-1])
            raise ZeroDivisionError

    with path.open("wb") as file:
        file.write(LARGE)
        assert not path.exists()
    assert path.stat().st_size == len(LARGE)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == LARGE
    assert remains(proxied.folder) == []


def test_a_reading_goes_on_in_few_requests_and_a_seek_asks_for_little(proxied):
    path = proxied.folder / "file"
    path.write_bytes(LARGE)
    proxied.log.clear()
    with path.open("rb") as file:
        while file.read(65_536):
            pass
    assert sum(operation == "Get" for operation, *_ in proxied.log) <= len(LARGE) / reading.BLOCK_BYTES + 7
    proxied.log.clear()
    with path.open("rb") as file:
        for position in (9_000_000, 100, 5_000_000):
            file.seek(position)
            assert file.read(10) == LARGE[position : position + 10]
    assert sum(operation == "Get" for operation, *_ in proxied.log) == 3


def test_one_client_serves_all_threads_and_a_fork_makes_its_own(proxied):
    paths = [proxied.folder / str(index) for index in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda path: path.write_bytes(path.name.encode() * 2**20), paths))
        assert [len(body) for body in threads.map(lambda path: path.read_bytes(), paths)] == [2**20] * 8
    paths[0].write_bytes(LARGE)
    inherited = client()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if client() is not inherited and paths[0].read_bytes() == LARGE else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_naming_places_imports_no_client():
    code = (
        "import sys, pipeline.storage.files, pipeline.storage.places as p\n"
        "p.place('s3://bucket/a') / 'b', p.place('file:///a')\n"
        "print(sorted({'boto3', 'botocore', 's3transfer', 'awscrt'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
