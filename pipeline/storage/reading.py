"""Objects read in ranges, all of one ETag: never bytes of two versions in one reading."""

import io
import random
import time
from collections import deque
from concurrent.futures import Future
from contextlib import closing
from typing import Any, NamedTuple

from pipeline.storage.client import client
from pipeline.storage.faults import ChangedError, StoreError, absent, body_faults, client_faults, code_of
from pipeline.storage.retries import FIRST_WAIT_S
from schemas.stores import S3Url

RANGE_ATTEMPTS = 4
"""Of a body that breaks off."""
FIRST_BYTES = 128 * 2**10
BLOCK_BYTES = 4 * 2**20
"""A reading that goes on doubles its requests from the first size to the second."""
BLOCKS_AHEAD = 3
"""Under way or waiting to be read, once a reading goes on: 16 MiB a reader with the one that is being read."""


class Stat(NamedTuple):
    """An object as it was seen; the first two are named as `os.stat_result` names them."""

    st_size: int
    """Bytes."""
    st_mtime_ns: int
    """When it was written; most stores tell whole seconds."""
    etag: str
    """As the store writes it, in quotes."""
    version: str
    """Empty where the bucket keeps no versions."""
    attempt: str
    """Of the write that made it; empty where something else made it."""


def stat_of(head: dict[str, Any]) -> Stat:
    """From the answer to a HEAD."""
    told = {name.lower(): value for name, value in head.get("Metadata", {}).items()}  # some stores write `Attempt`
    modified = head.get("LastModified")
    return Stat(
        head["ContentLength"],
        int(modified.timestamp()) * 10**9 + modified.microsecond * 1000 if modified else 0,
        head.get("ETag", ""),
        head.get("VersionId", ""),
        told.get("attempt", ""),
    )


def stat(url: S3Url) -> Stat:
    """Raises AbsentError where there is no such object, StoreError where it cannot be asked."""
    if head := client().head(url):
        return stat_of(head)
    raise absent(url)


def pinned_head(url: S3Url, etag: str, version: str = "") -> dict[str, Any]:
    """The answer to a HEAD of one version of an object, with its checksum. Raises StoreError where it changed."""
    store = client()
    with store.told(url, seen=True):
        head = store.head(url, ChecksumMode="ENABLED", **_pins(etag, version))
        if head is None or head.get("ETag") != etag:  # not all stores heed the request
            raise ChangedError(f"{url} is not of ETag {etag}")
    return head


def _pins(etag: str, version: str) -> dict[str, str]:
    return ({"IfMatch": etag} if etag else {}) | ({"VersionId": version} if version else {})


def get_range(url: S3Url, start: int, size: int, etag: str = "", version: str = "") -> bytes:
    """Bytes [start, start + size) of an object, fewer where it ends before; of that ETag where one is given.

    Raises AbsentError where there is no such object, StoreError where it changed or cannot be read.
    """
    asked = {"Range": f"bytes={start}-{start + size - 1}", **_pins(etag, version)}
    with client().told(url, seen=bool(etag)):
        for attempt in range(1, RANGE_ATTEMPTS + 1):
            answer = _answer(url, etag, asked)
            try:
                return _body(url, answer, start, size) if answer else b""
            except body_faults():
                if attempt == RANGE_ATTEMPTS:
                    raise
                time.sleep(random.random() * FIRST_WAIT_S * 2**attempt)
    raise AssertionError("unreachable")


def _answer(url: S3Url, etag: str, asked: dict[str, str]) -> dict[str, Any] | None:
    """None for a range past the end, and for any of an empty object."""
    try:
        answer: dict[str, Any] = client().s3.get_object(Bucket=url.bucket, Key=url.key, **asked)
    except client_faults() as error:
        if code_of(error) != "InvalidRange":
            raise
        return None
    if etag and answer.get("ETag") != etag:
        raise ChangedError(f"{url} has ETag {answer.get('ETag')}, not {etag}")
    return answer


def _body(url: S3Url, answer: dict[str, Any], start: int, size: int) -> bytes:
    with closing(answer["Body"]) as body:
        told = answer.get("ContentRange", "bytes 0-" if answer["ContentLength"] <= size else "")
        if not told.startswith(f"bytes {start}-"):  # not the status: some stores say 200 with a range, too
            raise StoreError(f"{url}: the store does not answer in the ranges it is asked for; take another store")
        return bytes(body.read())


class ObjectReader(io.RawIOBase):
    """A seekable file over one object, with read-ahead where it is read on and on; wrap it in a BufferedReader.

    For one thread. Holds at most `(BLOCKS_AHEAD + 1) * BLOCK_BYTES`.
    """

    def __init__(self, url: S3Url, seen: Stat) -> None:
        super().__init__()
        self._url, self._seen, self._position = url, seen, 0
        self._start, self._block, self._size = 0, memoryview(b""), FIRST_BYTES
        self._ahead: deque[tuple[int, Future[bytes]]] = deque()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Asks the store nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._seen.st_size}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._url}: cannot seek to {base + offset}, before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """As many bytes as one block has."""
        if self._position >= self._seen.st_size:
            return 0
        view = memoryview(buffer).cast("B")
        if not self._start <= self._position < self._start + len(self._block):
            self._fetch(len(view))
        offset = self._position - self._start
        count = min(len(view), len(self._block) - offset)
        view[:count] = self._block[offset : offset + count]
        self._position += count
        return count

    def readall(self) -> bytes:
        """All that is left."""
        left = bytearray(max(self._seen.st_size - self._position, 0))
        view = memoryview(left)
        while view and (count := self.readinto(view)):
            view = view[count:]
        return bytes(left)

    def close(self) -> None:
        """Fetches no more."""
        self._drop()
        self._block = memoryview(b"")
        super().close()

    def _fetch(self, wanted: int) -> None:
        """Makes the block at the position the one at hand."""
        start = self._position
        goes_on = start > 0 and start == self._start + len(self._block)
        self._size = max(min(wanted, BLOCK_BYTES), min(self._size * 2, BLOCK_BYTES) if goes_on else FIRST_BYTES)
        if not self._ahead or self._ahead[0][0] != start:
            self._drop()
        if goes_on and self._size == BLOCK_BYTES:
            self._look_ahead(start)
        found = self._ahead.popleft()[1].result() if self._ahead else self._get(start, self._size)
        self._start, self._block = start, memoryview(found)

    def _look_ahead(self, start: int) -> None:
        if self._ahead:
            start = self._ahead[-1][0] + BLOCK_BYTES
        for begin in range(start, self._seen.st_size, BLOCK_BYTES)[: BLOCKS_AHEAD + 1 - len(self._ahead)]:
            self._ahead.append((begin, client().threads.submit(self._get, begin, BLOCK_BYTES)))

    def _get(self, start: int, size: int) -> bytes:
        size = min(size, self._seen.st_size - start)
        found = get_range(self._url, start, size, self._seen.etag, self._seen.version)
        if len(found) != size:
            raise StoreError(
                f"{self._url}: {len(found)} bytes came from byte {start} on, not {size}; run the same command again"
            )
        return found

    def _drop(self) -> None:
        for _, task in self._ahead:
            task.cancel()
        self._ahead.clear()
