"""The members of one sample, out of its tar: one read for all that lie together, each proven by its header.

What a header says must be what the index says, so a tar that was changed or cut is an error, never wrong data.
"""

import errno
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline.shards.buffers import buffer
from pipeline.shards.lookup import IndexRow, ShardError
from pipeline.shards.recent import Recent
from pipeline.storage.client import client
from pipeline.storage.faults import StoreError
from pipeline.storage.files import read_range
from pipeline.storage.places import Place
from schemas.ledger import INDEX

CHANGED = f"The tar is not the one {INDEX} was written for: build the mixture again, or restore both."
GAP_BYTES = 128 * 2**10
"""Members that are not wanted are read along up to here: less than what another read costs."""
_BLOCK = tarfile.BLOCKSIZE
_BROKEN = (errno.ENOENT, errno.EACCES, errno.EIO, errno.EISDIR, errno.ENOTDIR)
"""What the system says of a file that is not there or cannot be read; anything else is no matter of the file."""

Payloads = dict[str, memoryview]
"""Bytes by suffix; writable, and nobody else's."""


class Span(NamedTuple):
    """One read."""

    start: int
    """In the tar, bytes."""
    exclusive_end: int
    members: tuple[int, ...]
    """Which members of the sample it covers, by their place in its row."""


class Tar(Protocol):
    """Where bytes of one tar come from."""

    def read(self, start: int, size: int) -> memoryview:
        """Bytes [start, start + size), fewer where it ends before. Raises OSError where it cannot be read."""

    def size(self) -> int:
        """Of the tar, bytes."""


class LocalTar:
    """An open file; for any thread, and for the child of a fork. It is closed when nobody holds it."""

    def __init__(self, path: Path) -> None:
        self._handle = -1
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, start: int, size: int) -> memoryview:
        """As `Tar.read`."""
        view = buffer(size)
        done = 0
        while done < size and (got := os.preadv(self._handle, [view[done:]], start + done)):
            done += got
        return view[:done]

    def size(self) -> int:
        """As `Tar.size`."""
        return os.fstat(self._handle).st_size

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


class StoredTar:
    """A tar in an object store."""

    def __init__(self, path: Place) -> None:
        self._path = path

    def read(self, start: int, size: int) -> memoryview:
        """As `Tar.read`."""
        data = read_range(self._path, start, size)
        view = buffer(len(data))
        view[:] = data
        return view

    def size(self) -> int:
        """As `Tar.size`."""
        return self._path.stat().st_size


def open_tar(folder: Place, row: IndexRow) -> Tar:
    """The sample's tar. Raises ShardError where a local file cannot be opened; a store is not asked."""
    path = folder / row.shard
    if not isinstance(path, Path):
        client()  # made here, once, and not by each of the threads that read
        return StoredTar(path)
    try:
        return LocalTar(path)
    except OSError as error:
        raise _told(row, error, f"cannot open {path}") from error


class Tars:
    """The tars of a mixture that were read last, kept open. For one thread, but what it opens is for any."""

    def __init__(self, folder: Place, limit: int) -> None:
        self._folder = folder
        self._open: Recent[str, Tar] = Recent(limit)

    def of(self, row: IndexRow) -> Tar:
        """As `open_tar`."""
        return self._open.get(row.shard, lambda _: open_tar(self._folder, row))


def where(row: IndexRow) -> str:
    """How errors name a sample."""
    return f"{row.shard}, sample {row.key}"


def spans(row: IndexRow, suffixes: Sequence[str]) -> list[Span]:
    """The reads that these members take.

    Raises ValueError for members that the sample has not.
    """
    try:
        wanted = sorted(row.members.index(suffix) for suffix in suffixes)
    except ValueError:
        missing = [suffix for suffix in suffixes if suffix not in row.members]
        raise ValueError(
            f"{where(row)} has no {', '.join(missing)}, only {', '.join(row.members)}: name encoders "
            "of this mixture; frames are stored only where the recipe's shards.frames_for asks for them"
        ) from None
    found: list[Span] = []
    for number in wanted:
        start, end = row.data_offsets[number] - _BLOCK, row.data_offsets[number] + row.sizes[number]
        if found and goes_on(found[-1].exclusive_end, start):
            last = found.pop()
            found.append(Span(last.start, end, (*last.members, number)))
        else:
            found.append(Span(start, end, (number,)))
    return found


def goes_on(exclusive_end: int, start: int) -> bool:
    """Whether one read takes what ends there and what begins here."""
    return 0 <= start - exclusive_end <= GAP_BYTES


def payloads(tar: Tar, row: IndexRow, reads: Sequence[Span]) -> Payloads:
    """The bytes of the members of `spans`, each proven to be the member that the index means.

    Raises ShardError where they are not, or the tar is not there or cannot be read; OSError where a machine or a
    store fails.
    """
    found: Payloads = {}
    for start, end, members in reads:
        try:
            data = tar.read(start, end - start)
        except OSError as error:
            raise _told(row, error, "cannot be read") from error
        for number in members:
            begin = row.data_offsets[number] - start
            payload = data[begin : begin + row.sizes[number]]
            if len(payload) < row.sizes[number]:
                raise ShardError(_cut(row, number, tar.size()))
            _check_header(bytes(data[begin - _BLOCK : begin]), row, number)
            found[row.members[number]] = payload
    return found


def _told(row: IndexRow, error: OSError, what: str) -> Exception:
    """As a ShardError where the file is at fault; as it is where the machine, the network or a login is."""
    absent = isinstance(error, FileNotFoundError)
    if not absent and (isinstance(error, StoreError) or error.errno not in _BROKEN):
        return error
    return ShardError(f"{where(row)}: {what}: {error.strerror or error}")


def _cut(row: IndexRow, number: int, end: int) -> str:
    offset, size = row.data_offsets[number], row.sizes[number]
    return (
        f"{where(row)}: the tar ends at byte {end}, but the index puts {row.members[number]} "
        f"at [{offset}, {offset + size}): it was cut short. Copy or build it again."
    )


def _check_header(block: bytes, row: IndexRow, number: int) -> None:
    suffix, size = row.members[number], row.sizes[number]
    # POSIX.1-1988 ustar: 100 bytes of name, 24 of mode and owner, 12 of size. To parse it all takes longer than
    # to read a small sample.
    name = f"{row.key}.{suffix}".encode().ljust(100, b"\0")
    if block.startswith(name) and block[124:136] == b"%011o\0" % size and block[257:262] == b"ustar":
        return
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ShardError(f"{where(row)}: no tar header before {suffix} ({error}). {CHANGED}") from error
    if (header.name, header.size) != (f"{row.key}.{suffix}", size):
        raise ShardError(
            f"{where(row)}: found {header.name} of {header.size} bytes where the index puts "
            f"{suffix} of {size}. {CHANGED}"
        )
