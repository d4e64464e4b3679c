"""Objects written as a stream of parts within fixed memory, which appear when they are completed, or never.

What was uploaded is a value (`Written`): another process may complete it (`completing`). The store checks every
part against its checksum.
"""

import base64
import hashlib
import io
import sys
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from pipeline.storage.client import Client, client
from pipeline.storage.faults import StoreError, client_faults, code_of
from schemas.stores import S3Url

PART_BYTES = 8 * 2**20
"""Stores take 10,000 parts: 80 GB an object."""
MAX_PARTS = 10_000
PARTS_AT_ONCE = 3
"""Being uploaded while one more is filled: 32 MiB a writer."""
INLINE_BYTES = 2**20
"""Up to here an object is one request, made when it is completed."""


class Part(NamedTuple):
    """As CompleteMultipartUpload wants it."""

    etag: str
    crc32: int
    size: int
    """Bytes."""
    told: bool
    """Whether the store gave the checksum itself."""


class Written(NamedTuple):
    """What a writer put into the store, or, where it is small, what it will put there."""

    upload: str
    """The store's id of the upload; empty where there is none."""
    parts: tuple[Part, ...]
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return len(self.payload) + sum(part.size for part in self.parts)

    @property
    def crc32(self) -> str:
        """Of the whole object, as stores write it."""
        from awscrt.checksums import combine_crc32

        whole = zlib.crc32(self.payload)
        for part in self.parts:
            whole = combine_crc32(whole, part.crc32, part.size)
        return shown(whole)


class ObjectWriter(io.RawIOBase):
    """A file that uploads what is written to it; `done(written)` is called at close, and not after an error.

    For one thread. Holds at most `(PARTS_AT_ONCE + 1) * PART_BYTES`.
    """

    def __init__(self, url: S3Url, attempt: str, done: Callable[[Written], None]) -> None:
        super().__init__()
        self._url, self._attempt, self._done = url, attempt, done
        self._buffer, self._count, self._upload, self._failed = bytearray(), 0, "", False
        self._pending: deque[Future[Part]] = deque()
        self._parts: list[Part] = []

    def writable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self._count

    def write(self, data: Any) -> int:
        """All of it. Raises StoreError when a part before it could not be uploaded."""
        if self.closed:
            raise ValueError(f"{self._url}: write to a closed file")
        self._check()
        view = memoryview(data).cast("B")
        start = 0
        while start < len(view):
            taken = view[start : start + PART_BYTES - len(self._buffer)]
            self._buffer += taken
            start += len(taken)
            if len(self._buffer) == PART_BYTES:
                self._send()
        self._count += len(view)
        return len(view)

    def close(self) -> None:
        """Uploads what is left, and tells of it."""
        if self.closed:
            return
        try:
            self._check()
            if self._buffer and (self._upload or len(self._buffer) > INLINE_BYTES):
                self._send()
            self._collect(0)
            written = Written(self._upload, tuple(self._parts), bytes(self._buffer))
        except BaseException:
            self.abort()
            raise
        super().close()
        self._done(written)

    def abort(self) -> None:
        """Leaves nothing in the store, as far as it can be reached: the rest is for `files.remains`."""
        if self.closed:
            return
        super().close()
        for task in self._pending:
            task.cancel()
        for task in self._pending:
            task.exception() if not task.cancelled() else None
        self._pending.clear()
        self._buffer = bytearray()
        if not sys.is_finalizing():
            with suppress(StoreError):
                discard(self._url, self._upload)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __enter__(self) -> Self:
        return self

    def __del__(self) -> None:
        """A writer that was let go is no finished one."""
        self.abort()

    def _check(self) -> None:
        if self._failed:
            raise StoreError(f"{self._url}: a part of it could not be uploaded; run the same command again")

    def _send(self) -> None:
        self._failed = True  # until all went well
        number = len(self._parts) + len(self._pending) + 1
        if number > MAX_PARTS:
            raise StoreError(
                f"{self._url}: over {MAX_PARTS * PART_BYTES:,} bytes, the most that this program writes as one "
                "object; make it smaller, such as by fewer samples a shard"
            )
        if not self._upload:
            self._upload = begin(self._url, self._attempt)
        self._collect(PARTS_AT_ONCE - 1)
        body = bytes(self._buffer)  # boto3 would keep a copy of a bytearray beside it
        self._buffer = bytearray()
        self._pending.append(client().threads.submit(_upload_part, self._url, self._upload, number, body))
        self._failed = False

    def _collect(self, left: int) -> None:
        """Waits until only so many parts are under way."""
        while len(self._pending) > left:
            self._parts.append(self._pending[0].result())
            self._pending.popleft()


def discard(url: S3Url, upload: str) -> None:
    """Aborts an upload; one that is not there, or none, is no error."""
    if not upload:
        return
    store = client()
    with store.told(url):
        try:
            store.s3.abort_multipart_upload(Bucket=url.bucket, Key=url.key, UploadId=upload)
        except client_faults() as error:
            if code_of(error) not in {"NoSuchUpload", "404"}:
                raise


def begin(url: S3Url, attempt: str) -> str:
    """The id of a new upload, to be completed or discarded. Raises StoreError."""
    store = client()
    with store.told(url):
        answer = store.s3.create_multipart_upload(
            Bucket=url.bucket,
            Key=url.key,
            Metadata={"attempt": attempt},
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
    return str(answer["UploadId"])


def _upload_part(url: S3Url, upload: str, number: int, body: bytes) -> Part:
    store = client()
    crc32 = zlib.crc32(body)
    with store.told(url):
        answer = store.s3.upload_part(
            Bucket=url.bucket,
            Key=url.key,
            UploadId=upload,
            PartNumber=number,
            Body=body,
            **checks(store, body, crc32),
        )
    store.tells_crc32 = told = is_told(url, answer, shown(crc32))
    return Part(answer["ETag"], crc32, len(body), told)


def checks(store: Client, body: bytes, crc32: int) -> dict[str, str]:
    """Stores of today check the first, and say so; for all others the second, which costs three times as much."""
    checks = {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": shown(crc32)}
    if not store.tells_crc32:
        checks["ContentMD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return checks


def is_told(url: S3Url, answer: dict[str, Any], crc32: str) -> bool:
    """Whether the store gives the checksum of what it got. Raises StoreError where it is another."""
    found = answer.get("ChecksumCRC32")
    if found and found != crc32:
        raise StoreError(f"{url}: the store got bytes of CRC32 {found}, not {crc32}; run the same command again")
    return bool(found)


def shown(crc32: int) -> str:
    """As stores write it."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()
