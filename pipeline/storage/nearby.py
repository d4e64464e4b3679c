"""Files of a store where a program can open them that reads a disk only: libav, safetensors."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline.storage.cache import cache_root
from pipeline.storage.files import ATTEMPT_PREFIX, copy, published, size_of, stamp
from pipeline.storage.places import Place, S3Path, place
from schemas.base import digest

MANY = 1_000
"""Objects that are asked for one by one; more are listed, 1,000 a request."""


@contextmanager
def nearby(root: str, paths: Sequence[str]) -> Iterator[str]:
    """Yields a local folder under which the media at `paths` lie: `root` itself, or one that goes again.

    Media that a store does not have are not there either: who opens them says so. Raises StoreError where the store
    cannot be read, OSError where the disk is full (`TMPDIR` names another).
    """
    found = place(root) if root else root
    if not isinstance(found, S3Path):
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="video-mixture-") as folder:
        for path in dict.fromkeys(paths):
            if ".." not in PurePosixPath(path).parts and not path.startswith("/"):
                try:
                    copy(found / path, Path(folder, path))
                except FileNotFoundError:
                    continue
        yield folder


@contextmanager
def worked_on(folder: Place) -> Iterator[Path]:
    """Yields a local folder with all that lies in `folder`: itself, or one in the cache of this machine.

    Whole files that are there in the end are put into `folder`, however the block ends.
    """
    if isinstance(folder, Path):
        yield folder
        return
    here = cache_root() / "work" / digest(str(folder))
    for path, stat in folder.objects():
        if size_of(file := here / path.relative_to(folder)) != stat.st_size:
            with published(file) as attempt:
                copy(path, attempt)
    try:
        yield here
    finally:
        names = [file.relative_to(here) for file in sorted(here.rglob("*")) if file.is_file()]
        for name in names:
            is_whole = not any(part.startswith(ATTEMPT_PREFIX) for part in name.parts)
            if is_whole and size_of(folder / name) != size_of(here / name):
                copy(here / name, folder / name)


class Stamps:
    """What tells a changed medium under `root` from the old one, without reading it."""

    def __init__(self, root: Place) -> None:
        self._root, self._asked = root, 0

    def of(self, name: str) -> list[list[str | int]]:
        """See `stamp`. An object store is listed once many were asked for."""
        self._asked += 1
        if isinstance(self._root, S3Path) and self._asked > MANY:
            return self._listed.get(name, [])
        return stamp(self._root / name)

    @cached_property
    def _listed(self) -> dict[str, list[list[str | int]]]:
        """By path under the root: what `stamp` says of that object."""
        if not isinstance(self._root, S3Path):
            return {}
        found = ((path.relative_to(self._root).as_posix(), path, stat) for path, stat in self._root.objects())
        return {name: [[path.name, stat.st_size, stat.etag]] for name, path, stat in found}
