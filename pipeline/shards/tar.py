"""One tar under our law: USTAR, mtime 0, nobody's files, fixed mode, hashed as it is written.

Headers are made here, one block from a template, equal to the byte to what the standard library's tarfile writes;
docs/decisions/0003-tar-writer.md says which law that is, 0018 why it is not called.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.storage.places import Place
from schemas.base import InputError, Sha256

BLOCK = tarfile.BLOCKSIZE
"""Bytes: a header, and what a member's data are filled up to."""
MAX_NAME_BYTES = 100
"""USTAR's name field (POSIX.1-1988 ustar header). Its prefix field would stretch it, but wids ignores that."""
_MAX_SIZE = 8**11
"""Eleven octal digits."""
_SMALL = 1 << 16
"""Bytes that are cheaper to copy than to write by themselves."""

_SENT_BYTES = 8 << 20

Payload = bytes | memoryview


def stored_bytes(size: int) -> int:
    """What a member of that many bytes takes in a tar: its header, and data filled up to whole blocks."""
    return BLOCK + size + -size % BLOCK


def tar_bytes(held: int) -> int:
    """Size of a tar whose members take `held` bytes: two empty blocks end it, and it is filled up to records."""
    whole = held + 2 * BLOCK
    return whole + -whole % tarfile.RECORDSIZE


def room(size: int) -> int:
    """What members may take in a tar of at most `size` bytes: the other way round of `tar_bytes`."""
    return size - size % tarfile.RECORDSIZE - 2 * BLOCK


def header(name: str, size: int) -> bytes:
    """The header block of a member. Raises InputError for what has no place in it."""
    told = name.encode()
    if len(told) > MAX_NAME_BYTES or size >= _MAX_SIZE:
        raise InputError(
            f"tar member {name!r} of {size} bytes: a name has {MAX_NAME_BYTES} bytes at most, a member {_MAX_SIZE}"
        )
    digits = b"%011o" % size
    block = bytearray(_template())
    block[: len(told)] = told
    block[124:135] = digits
    block[148:154] = b"%06o" % (_template_sum() + sum(told) + sum(digits) - 11 * ord("0"))
    return bytes(block)


@cache
def _template() -> bytes:
    """The header of an empty file without a name: TarInfo's own defaults are the law."""
    return tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)


@cache
def _template_sum() -> int:
    return int(_template()[148:154], 8)


class TarShard:
    """Writes members to a tar at `path`, which must not exist yet. A context manager.

    What was written last is hashed in a thread of its own while the next piece is written, and is held until then.
    """

    def __init__(self, path: Place) -> None:
        # "x": an attempt's name is its own; meeting a file there is a bug.
        self._file = path.open("xb")
        self._sha256 = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1, "sha256")
        self._hashing = self._hasher.submit(lambda: None)
        self._size = self._sent = 0
        self._is_on_disk = isinstance(path, Path) and hasattr(os, "posix_fadvise")

    def add(self, name: str, *payload: Payload) -> int:
        """Appends a member and returns the offset of its data, bytes from the start of the tar."""
        return self.add_all([(name, payload)])[0]

    def add_all(self, members: Sequence[tuple[str, Sequence[Payload]]]) -> list[int]:
        """Appends members, each a name and the pieces of its data; returns the offsets of their data."""
        pieces: list[Payload] = []
        offsets = []
        at = self._size
        for name, payload in members:
            size = sum(len(piece) for piece in payload)
            pieces += [header(name, size), *payload, bytes(-size % BLOCK)]
            offsets.append(at + BLOCK)
            at += stored_bytes(size)
        self._write(pieces)
        return offsets

    def _write(self, pieces: Sequence[Payload]) -> None:
        joined = list(_joined(pieces))
        self._hashing.result()
        self._hashing = self._hasher.submit(self._hash, joined)
        for piece in joined:
            self._file.write(piece)
            self._size += len(piece)
        self._send()

    def _send(self) -> None:
        """Has the disk begin with what is written, so that the sync at the end waits for little: Linux begins to
        write out what is told to be of no more use.
        """
        if self._is_on_disk and self._size - self._sent >= _SENT_BYTES:
            self._file.flush()
            os.posix_fadvise(self._file.fileno(), self._sent, self._size - self._sent, os.POSIX_FADV_DONTNEED)
            self._sent = self._size

    def _hash(self, pieces: Sequence[Payload]) -> None:
        for piece in pieces:
            self._sha256.update(piece)

    def tell(self) -> int:
        """Where the next member's header will begin."""
        return self._size

    @property
    def size(self) -> int:
        """Bytes written; the tar's size once it is closed."""
        return self._size

    @property
    def sha256(self) -> Sha256:
        """Of the bytes written; the tar's digest once it is closed."""
        self._hashing.result()
        return self._sha256.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._write([bytes(tar_bytes(self._size) - self._size)])
        finally:
            self._hasher.shutdown()
            self._file.close()


def _joined(pieces: Sequence[Payload]) -> Iterator[Payload]:
    """The same bytes in fewer pieces: small neighbours as one."""
    small: list[Payload] = []
    for piece in pieces:
        if len(piece) < _SMALL:
            small.append(piece)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield piece
    if small:
        yield b"".join(small)
