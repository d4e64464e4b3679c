"""A folder on this machine for what was fetched from an object store, under a digest of what it is."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.storage.files import ATTEMPT_PREFIX
from pipeline.storage.objects import ObjectStore, Stored
from schemas.base import InputError, digest

APPLICATION = "video-mixture"
WAIT_S = 3600.0
"""For another process that fetches the same; then it is taken for hung."""


def fetched(kind: str, objects: Sequence[Stored]) -> Path:
    """A folder with these objects under their names, fetched by whoever comes first; others wait, and find it.

    Args:
        kind: Names a part of the cache, such as `weights`.
        objects: Of one folder of the store, so that names do not clash.

    Raises:
        InputError: An object is another by now or cannot be read, or the cache cannot be written.
    """
    folder = cache_root() / kind / digest([[str(o.url), o.size, o.etag, o.version] for o in objects])
    if not _absent(folder, objects):
        return folder
    try:
        _fetch(folder, objects)
    except OSError as error:
        raise InputError(
            f"{objects[0].url} cannot be kept in {folder}: {error}; make room there, or set XDG_CACHE_HOME to "
            "another folder"
        ) from error
    return folder


def _fetch(folder: Path, objects: Sequence[Stored]) -> None:
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f"{folder.name}.lock")
    try:
        with FileLock(lock, timeout=WAIT_S):
            # Nobody else writes here: these are of runs that were killed, and may be gigabytes.
            for remains in folder.glob(f"{ATTEMPT_PREFIX}*"):
                remains.unlink()
            if absent := _absent(folder, objects):
                store = ObjectStore()
                for stored in absent:
                    store.download(stored, folder / stored.url.name)
    except Timeout:
        raise InputError(
            f"{objects[0].url}: another process has been fetching it for over {WAIT_S:.0f} s; end that process, "
            f"the one that holds {lock}"
        ) from None


def _absent(folder: Path, objects: Sequence[Stored]) -> list[Stored]:
    """A file that was published is whole; its size is looked at in case somebody else touched it."""
    files = [(stored, folder / stored.url.name) for stored in objects]
    return [stored for stored, file in files if not file.is_file() or file.stat().st_size != stored.size]


def cache_root() -> Path:
    """`$XDG_CACHE_HOME`, which must be absolute, or `~/.cache`, as the XDG base directory specification has it."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / APPLICATION
    except RuntimeError as error:
        raise InputError(
            "this user has no home folder: set XDG_CACHE_HOME to a folder for what is fetched"
        ) from error
