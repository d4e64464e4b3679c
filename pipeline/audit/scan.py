"""Reads a tar as a stranger's file: once, block by block, hashing all of it, trusting none of it.

Only the law's own tars are understood (USTAR headers of regular files, then zero blocks to a whole
record); anything else is a finding. A size that the file cannot hold is refused before memory is
taken for it. A quick scan reads headers and JSON alone and hashes nothing.

The file is read and not mapped: one that is cut while it is mapped ends the process by a signal, one that is cut
while it is read is a finding.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pipeline.audit.findings import Code, FindingLog
from pipeline.audit.header import BLOCK, HeaderError, parse_header
from pipeline.storage.places import Place
from schemas.base import Sha256

_ZEROS = bytes(BLOCK)
_PADDING = BLOCK - 1
_RECORD = 20 * BLOCK
_WINDOW = 5 << 10
"""Bytes of one read of a quick scan where a JSON is expected: most often it and the headers around it."""


Member = tuple[str, int, bytes | memoryview | None]
"""Suffix, bytes, payload: `bytes` of a JSON, None where a quick scan passed over it."""


@dataclass(slots=True)
class TarSample:
    """Consecutive members of one key."""

    shard: str
    key: str
    members: list[Member] = field(default_factory=list)
    """In the tar's order."""

    @property
    def suffixes(self) -> list[str]:
        """Of the members, in order."""
        return [suffix for suffix, _, _ in self.members]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by suffix."""
        return {suffix: size for suffix, size, _ in self.members}

    def json(self, suffix: str) -> bytes:
        """The last member of that suffix, as readers that make a dictionary of them see it; empty without one."""
        for name, _, payload in reversed(self.members):
            if name == suffix:
                return bytes(payload or b"")
        return b""


class ShardScan:
    """One pass over a tar. Iterate it to its end, then read `size_bytes` and `sha256`."""

    def __init__(self, folder: Place, name: str, log: FindingLog, quick: bool = False) -> None:
        self._path, self._name, self._log, self._quick = folder / name, name, log, quick
        self._sha256 = hashlib.sha256()
        self._last = ""
        self._file: IO[bytes]
        self._window, self._window_at, self._ahead = b"", 0, _WINDOW
        self.size_bytes = 0

    @property
    def sha256(self) -> Sha256:
        """Of the whole file, damaged or not; empty after a quick scan."""
        return "" if self._quick else self._sha256.hexdigest()

    def __iter__(self) -> Iterator[TarSample]:
        """The samples, as far as the tar can be read. Raises OSError."""
        if self._path.exists() and not self._path.is_file():
            raise OSError("it is no regular file")  # opening a pipe would wait for its writer
        with self._path.open("rb") as self._file:
            self.size_bytes = self._file.seek(0, os.SEEK_END)
            self._file.seek(0)
            yield from self._samples()
            while not self._quick and (rest := self._file.read(1 << 20)):
                self._sha256.update(rest)

    def _samples(self) -> Iterator[TarSample]:
        """One loop with few calls where a few microseconds a member count; `at` is the place in the file."""
        quick, current, last_key, before, at = self._quick, None, None, 1, 0
        take = self._glance if quick else self._take
        while (block := take(at, BLOCK)) is not None:
            at += BLOCK
            if block == _ZEROS:
                self._check_end(at)
                break
            try:
                name, size, strange = parse_header(block)
            except HeaderError as error:
                self._damaged(f"{error}")
                break
            key, _, suffix = name.partition(".")
            if strange:
                self._log.add(Code.TAR_HEADER, f"{name!r}: {strange}", self._name, key)
            payload: bytes | memoryview | None = None
            padded, is_json = (size + _PADDING) & -BLOCK, suffix.endswith("json")
            if is_json or not quick:
                data = take(at, padded)
                if data is None:
                    break
                payload = data[:size] if is_json else memoryview(data)[:size]
            elif at + padded > self.size_bytes:
                self._cut_short(at, padded)
                break
            at += padded
            self._last = name
            if key != last_key or current is None:
                if current is not None:
                    yield current
                last_key, before = key, len(current.members) if current is not None else 1
                current = TarSample(self._name, key, [(suffix, size, payload)])
            else:
                current.members.append((suffix, size, payload))
            # A sample has as many members as the one before it, so a JSON comes next, or a header to pass by.
            self._ahead = _WINDOW if len(current.members) >= before else BLOCK
        if current is not None:
            yield current

    def _take(self, at: int, size: int) -> bytes | None:
        """The next bytes, which begin at `at`; None, and a finding, where the file does not hold as many."""
        if at + size > self.size_bytes:
            self._cut_short(at, size)
            return None
        data = self._file.read(size)
        self._sha256.update(data)
        return self._whole(data, at, size)

    def _glance(self, at: int, size: int) -> bytes | None:
        """The same of a quick scan, which reads what lies close together at once, little of what it passes over."""
        start = at - self._window_at
        data = self._window[start : start + size]
        if len(data) == size:
            return data
        left = self.size_bytes - at
        if size > left:
            self._cut_short(at, size)
            return None
        self._window, self._window_at = self._read_at(at, min(max(size + BLOCK, self._ahead), left)), at
        return self._whole(self._window[:size], at, size)

    def _read_at(self, at: int, size: int) -> bytes:
        if isinstance(self._path, Path):
            return os.pread(self._file.fileno(), size, at)
        self._file.seek(at)
        return self._file.read(size)

    def _cut_short(self, at: int, size: int) -> None:
        self._damaged(f"the tar is cut short: {self.size_bytes - at} of {size} bytes are left at byte {at}")

    def _whole(self, data: bytes, at: int, size: int) -> bytes | None:
        if len(data) == size:
            return data
        self._damaged(f"the tar became shorter while it was read: it ends at byte {at + len(data)}")
        return None

    def _check_end(self, at: int) -> None:
        """The archive ends with two zero blocks, the first before `at`, then zeros to a whole record."""
        end = at - BLOCK
        expected = -(-(end + 2 * BLOCK) // _RECORD) * _RECORD
        take = self._glance if self._quick else self._take
        tail = take(at, min(self.size_bytes, expected) - at) or b""
        if self.size_bytes < expected:
            self._damaged(f"the closing zero blocks are cut short: {self.size_bytes} bytes instead of {expected}")
        elif self.size_bytes > expected or tail.strip(b"\x00"):
            self._damaged(f"more than zeros follow the end of the archive at byte {end} of {self.size_bytes}")

    def _damaged(self, message: str) -> None:
        key = self._last.partition(".")[0]
        self._log.add(Code.TAR_DAMAGED, f"{message}; the last whole member is {self._last!r}", self._name, key)
