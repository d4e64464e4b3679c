"""Media where a decoding process can open them: libav reads plain local files only."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline.storage.files import copy, stamp
from pipeline.storage.places import Place, S3Path, place

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
