"""Reads a tar as a stranger's file: once, block by block, hashing all of it, trusting none of it.

Only the law's own tars are understood (USTAR headers of regular files, then zero blocks to a whole
record); anything else is a finding. A size that the file cannot hold is refused before memory is
taken for it.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pipeline.audit.findings import Code, FindingLog
from schemas.base import Sha256

_ZEROS = bytes(tarfile.BLOCKSIZE)
_USTAR_MAGIC = b"ustar\x0000"


@dataclass
class TarSample:
    """Consecutive members of one key."""

    shard: str
    key: str
    members: list[tuple[str, bytes]] = field(default_factory=list)
    """(suffix, bytes), in the tar's order."""


class ShardScan:
    """One pass over a tar. Iterate it to its end, then read `size_bytes` and `sha256`."""

    def __init__(self, folder: Path, name: str, log: FindingLog) -> None:
        self._path, self._name, self._log = folder / name, name, log
        self._sha256 = hashlib.sha256()
        self._last = ""
        self.size_bytes = 0

    @property
    def sha256(self) -> Sha256:
        """Of the whole file, damaged or not."""
        return self._sha256.hexdigest()

    def __iter__(self) -> Iterator[TarSample]:
        """The samples, as far as the tar can be read."""
        self.size_bytes = self._path.stat().st_size
        with self._path.open("rb") as file:
            current: TarSample | None = None
            for name, payload in self._members(file):
                key, _, suffix = name.partition(".")
                if current is None or key != current.key:
                    if current:
                        yield current
                    current = TarSample(self._name, key)
                current.members.append((suffix, payload))
            if current:
                yield current
            while rest := file.read(1 << 20):
                self._sha256.update(rest)

    def _members(self, file: BinaryIO) -> Iterator[tuple[str, bytes]]:
        while (block := self._take(file, tarfile.BLOCKSIZE)) is not None and block != _ZEROS:
            header = self._header(block)
            if header is None:
                return
            padded = -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            payload = self._take(file, padded)
            if payload is None:
                return
            self._last = header.name
            yield header.name, payload[: header.size]
        if block is not None:
            self._check_end(file)

    def _take(self, file: BinaryIO, size: int) -> bytes | None:
        left = self.size_bytes - file.tell()
        if size > left:
            self._damaged(f"the tar is cut short: {left} of {size} bytes are left at byte {file.tell()}")
            return None
        data = file.read(size)
        self._sha256.update(data)
        return data

    def _header(self, block: bytes) -> tarfile.TarInfo | None:
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError as error:
            self._damaged(f"no tar header where one must be: {error}")
            return None
        if not header.isreg() or header.size < 0:
            self._damaged(f"member {header.name!r} of type {header.type!r}: only regular files are ours")
            return None
        facts = (header.mtime, header.uid, header.gid, header.uname, header.gname, header.mode)
        if facts != (0, 0, 0, "", "", 0o644) or block[257:265] != _USTAR_MAGIC:
            self._log.add(
                Code.TAR_HEADER,
                f"{header.name!r}: (mtime, uid, gid, user, group, mode) is {facts}, magic {block[257:265]!r}: "
                "a tar of ours says (0, 0, 0, '', '', 0o644) in USTAR, else builds are not byte-identical",
                self._name,
                header.name.partition(".")[0],
            )
        return header

    def _check_end(self, file: BinaryIO) -> None:
        """The archive ends with two zero blocks, then zeros to a whole record, and nothing else."""
        end = file.tell() - tarfile.BLOCKSIZE
        expected = -(-(end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        tail = self._take(file, min(self.size_bytes, expected) - file.tell()) or b""
        if self.size_bytes < expected:
            self._damaged(f"the closing zero blocks are cut short: {self.size_bytes} bytes instead of {expected}")
        elif self.size_bytes > expected or tail.strip(b"\x00"):
            self._damaged(f"more than zeros follow the end of the archive at byte {end} of {self.size_bytes}")

    def _damaged(self, message: str) -> None:
        key = self._last.partition(".")[0]
        self._log.add(Code.TAR_DAMAGED, f"{message}; the last whole member is {self._last!r}", self._name, key)
