"""Files that appear whole or not at all: written under a name of their own attempt, then renamed."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ATTEMPT_PREFIX = ".attempt-"
"""Names that begin so are work in progress or the remains of a killed run; readers ignore them."""


_NOT_HERE = (errno.EXDEV, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
"""Answers of the kernel to what these two file systems cannot do together."""


def attempt_path(path: Path) -> Path:
    """A sibling of `path` that no other attempt, on this machine or another, will write to."""
    return path.with_name(f"{ATTEMPT_PREFIX}{uuid.uuid4().hex}-{path.name}")


def commit(attempt: Path, path: Path) -> None:
    """Makes a finished attempt the file (or new folder) `path`, durably; readers see all of it or nothing."""
    for file in sorted(attempt.rglob("*")) if attempt.is_dir() else ():
        _sync(file)
    _sync(attempt)
    attempt.replace(path)
    _sync(path.parent)


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yields an attempt path to write; it becomes `path` if the block ends well, and goes if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt = attempt_path(path)
    try:
        yield attempt
        commit(attempt, path)
    finally:
        attempt.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Publishes `text` as UTF-8."""
    with published(path) as attempt:
        attempt.write_text(text, encoding="utf-8")


def link(source: Path, target: Path) -> None:
    """Makes `target` another name of the file `source`; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (*_NOT_HERE, errno.EPERM, errno.EMLINK):
            raise
        copy(source, target)


def copy(source: Path, target: Path) -> None:
    """Copies inside the kernel where it can; file systems with shared extents (XFS, Btrfs) copy nothing at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), 2**30):
                pass
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            shutil.copyfileobj(reader, writer, 1 << 20)  # from where the kernel left off
        os.fsync(writer.fileno())


def stamp(path: Path) -> list[list[str | int]]:
    """Name, size and time of change (ns) of a file, or of each file of a folder; nothing for what is not there.

    A cheap stand-in for a digest in a fingerprint: another machine does the work again, but files
    that were changed in place are never taken for the old ones.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
