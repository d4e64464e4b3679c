"""One tar under our law: USTAR, mtime 0, nobody's files, fixed mode, hashed as it is written.

docs/decisions/0003-tar-writer.md says why this is the standard library's tarfile.
"""

import hashlib
import io
import tarfile
from types import TracebackType
from typing import IO, Self, cast

from pipeline.storage.places import Place
from schemas.base import Sha256


class _HashedFile:
    """A write-only binary file that hashes what passes."""

    def __init__(self, path: Place) -> None:
        # "x": an attempt's name is its own; meeting a file there is a bug.
        self._file = path.open("xb")
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        self._file.close()

    def hexdigest(self) -> Sha256:
        return self._sha256.hexdigest()


class TarShard:
    """Writes members to a tar at `path`, which must not exist yet. A context manager."""

    def __init__(self, path: Place) -> None:
        self._file = _HashedFile(path)
        self._tar = tarfile.TarFile(
            fileobj=cast("IO[bytes]", self._file), mode="w", format=tarfile.USTAR_FORMAT, copybufsize=1 << 20
        )

    def add(self, name: str, payload: bytes) -> int:
        """Appends a member and returns the offset of its data, bytes from the start of the tar."""
        # TarInfo's own defaults are the law: mode 0644, mtime 0, uid and gid 0, no owner names.
        info = tarfile.TarInfo(name)
        info.size = len(payload)
        data_offset = self.tell() + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(payload))
        return data_offset

    def tell(self) -> int:
        """Where the next member's header will begin."""
        return self._file.tell()

    @property
    def size(self) -> int:
        """Bytes written; the tar's size once it is closed."""
        return self._file.size

    @property
    def sha256(self) -> Sha256:
        """Of the bytes written; the tar's digest once it is closed."""
        return self._file.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._tar.close()
        finally:
            self._file.close()
