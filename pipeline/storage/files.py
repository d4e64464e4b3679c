"""Files that appear whole or not at all, on a disk or in an object store.

On a disk an attempt is a file (or folder) under a name of its own, then renamed; in a store it is an upload that is
not completed. The driver alone commits either.
"""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, TypeVar, cast

from pipeline.storage import listing
from pipeline.storage.attempts import S3Attempt
from pipeline.storage.client import client
from pipeline.storage.copying import copy_object
from pipeline.storage.faults import StoreError
from pipeline.storage.places import Place, S3Path
from pipeline.storage.reading import get_range
from pipeline.storage.writing import Part, Written, begin, discard

AnyPlace = TypeVar("AnyPlace", bound=Place)

ATTEMPT_PREFIX = ".attempt-"
"""Names that begin so are work in progress or the remains of a killed run; readers ignore them."""


_DISK = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "the limit on the size of a file is too low (ulimit -f)",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "make it yours to write to, or choose another place",
    errno.EPERM: "make it yours to write to, or choose another place",
}
"""What a disk refuses, and the mend."""


def disk_refusal(error: BaseException | None) -> str:
    """The user's view of what a disk refused; empty for any other error, which is a bug."""
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return ""
    where = error.filename2 or error.filename
    told = f"{where}: {error.strerror}" if where else f"{error.strerror}"
    return f"{told}; {_DISK[error.errno]}, and run the same command again: it takes up from there"


_NOT_HERE = (errno.EXDEV, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
"""Answers of the kernel to what these two file systems cannot do together."""


def attempt_path(path: AnyPlace) -> AnyPlace:
    """Where to write what `path` is to become; no other attempt, on this machine or another, will write there.

    On a disk it is a sibling, a file or a folder. In a store it is a file only, and a value that carries what was
    written: a worker sends it back to the driver, who commits it.
    """
    if isinstance(path, S3Path):
        return cast("AnyPlace", S3Attempt.of(path))
    return scratch_path(path)


def commit(attempt: Place, path: Place) -> None:
    """Makes a finished attempt the file (or new folder) `path`, durably; readers see all of it or nothing."""
    if isinstance(attempt, S3Path) or isinstance(path, S3Path):
        if not isinstance(attempt, S3Attempt) or attempt.target != path:
            raise ValueError(f"{attempt} is no attempt of {path}")
        attempt.commit()
        return
    for file in sorted(attempt.rglob("*")) if attempt.is_dir() else ():
        _sync(file)
    _sync(attempt)
    attempt.replace(path)
    _sync(path.parent)


@contextmanager
def published(path: AnyPlace) -> Iterator[AnyPlace]:
    """Yields an attempt path to write; it becomes `path` if the block ends well, and goes if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt = attempt_path(path)
    try:
        yield attempt
        commit(attempt, path)
    finally:
        attempt.unlink(missing_ok=True)


def write_text(path: Place, text: str) -> None:
    """Publishes `text` as UTF-8."""
    with published(path) as attempt:
        attempt.write_text(text, encoding="utf-8")


def link(source: Place, target: Place) -> None:
    """Makes `target` another name of the file `source`; a copy where there are no links."""
    if isinstance(source, S3Path) or isinstance(target, S3Path):
        copy(source, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (*_NOT_HERE, errno.EPERM, errno.EMLINK):
            raise
        copy(source, target)


def copy(source: Place, target: Place) -> None:
    """Copies inside the kernel, or inside the store, where they can; else as a stream within fixed memory.

    File systems with shared extents (XFS, Btrfs) copy nothing at all.
    """
    if isinstance(source, S3Path) and isinstance(target, S3Path) and not isinstance(target, S3Attempt):
        copy_object(source.url, source.stat(), target.url)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        if isinstance(source, S3Path) or isinstance(target, S3Path):
            shutil.copyfileobj(reader, writer, 1 << 20)
        else:
            _copy_in_kernel(reader, writer)
        if isinstance(target, Path):
            writer.flush()
            os.fsync(writer.fileno())


def _copy_in_kernel(reader: IO[bytes], writer: IO[bytes]) -> None:
    try:
        while os.copy_file_range(reader.fileno(), writer.fileno(), 2**30):
            pass
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        shutil.copyfileobj(reader, writer, 1 << 20)  # from where the kernel left off


def stamp(path: Place) -> list[list[str | int]]:
    """Name, size and time of change (ns; in a store the ETag) of a file, or of each file of a folder.

    Nothing for what is not there. A cheap stand-in for a digest in a fingerprint: another machine does the work
    again, but files that were changed in place are never taken for the old ones.
    """
    if isinstance(path, S3Path):
        seen = [(path, path.stat())] if path.is_file() else path.objects()
        return [[object_.name, stat.st_size, stat.etag] for object_, stat in seen]
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def size_of(path: Place) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def sha256_of(path: Place) -> tuple[str, int]:
    """Digest and bytes of a file, read once. Raises OSError where it cannot be read."""
    sha256, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            size += len(block)
    return sha256.hexdigest(), size


def read_range(path: Place, start: int, size: int) -> bytes:
    """Bytes [start, start + size) of a file, fewer where it ends before. Raises OSError where it cannot be read."""
    if isinstance(path, S3Path):
        return get_range(path.url, start, size) if size else b""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        return file.read(size)


def remove_tree(path: Place) -> None:
    """Removes a file, or a folder and all in it; an attempt, too. Nothing for what is not there."""
    if isinstance(path, S3Attempt):
        path.unlink(missing_ok=True)
    elif isinstance(path, S3Path):
        keys = [found.key for found, _ in path.objects()] + ([path.key] if path.key else [])
        for start in range(0, len(keys), 1000):
            _delete(path, keys[start : start + 1000])
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _delete(folder: S3Path, keys: list[str]) -> None:
    store = client()
    with store.told(folder.url):
        answer = store.s3.delete_objects(
            Bucket=folder.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
    for error in answer.get("Errors", ()):
        url, code = S3Path(folder.bucket, error.get("Key", "")), error.get("Code")
        raise StoreError(f"{url}: cannot be removed ({code}); allow s3:DeleteObject on it")


class Remains(NamedTuple):
    """What a killed run left, or what nobody needs any more."""

    place: Place
    """`remove_tree` removes it."""
    files: int
    size: int
    """Bytes."""


def remains(folder: Place) -> list[Remains]:
    """Attempts under a folder that nobody committed; those of a run that goes on are among them."""
    if isinstance(folder, S3Path):
        scratch = [(path, stat) for path, stat in folder.objects() if path.name.startswith(ATTEMPT_PREFIX)]
        uploads = [_upload(S3Path(*url), upload) for url, upload in listing.uploads(folder.folder_url)]
        return [*uploads, *(Remains(path, 1, stat.st_size) for path, stat in scratch)]
    return [held(path) for path in sorted(folder.rglob(f"{ATTEMPT_PREFIX}*"))]


def _upload(path: S3Path, upload: str) -> Remains:
    size = listing.uploaded(path.url, upload)
    held = Written(upload, (Part("", 0, size, False),), b"")
    return Remains(S3Attempt(path.bucket, path.key, "", [held]), 1, size)


def held(path: Place) -> Remains:
    """A file or folder with what it holds; nothing where it is not there."""
    if isinstance(path, S3Path):
        sizes = [stat.st_size for _, stat in path.objects()]
    else:
        sizes = [p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file()]
    return Remains(path, len(sizes), sum(sizes))


def scratch_path(path: AnyPlace) -> AnyPlace:
    """A sibling that no other attempt writes to, and that can be read before anything is committed."""
    return cast("AnyPlace", path.with_name(f"{ATTEMPT_PREFIX}{uuid.uuid4().hex}-{path.name}"))


def check_store(folder: S3Path) -> None:
    """Raises StoreError unless objects may be written there: one is begun, and never finished."""
    url = (folder / f"{ATTEMPT_PREFIX}{uuid.uuid4().hex}").url
    discard(url, begin(url, ""))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
