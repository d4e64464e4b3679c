"""Objects written as a stream of parts within fixed memory, which appear when they are completed, or never.

What was uploaded is a value (`Written`): another process may complete it. The store checks every part against its
checksum, and the whole against that of all parts; the id of the attempt, in the object's metadata, tells whose
write it was that took effect.
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
from pipeline.storage.faults import PresentError, StoreError, client_faults, code_of
from pipeline.storage.reading import stat_of
from schemas.stores import S3Url

PART_BYTES = 8 * 2**20
"""Stores take 10,000 parts: 80 GB an object."""
MAX_PARTS = 10_000
PARTS_AT_ONCE = 3
"""Being uploaded while one more is filled: 32 MiB a writer."""
INLINE_BYTES = 2**20
"""Up to here an object is one request, made when it is completed."""


Write = Callable[..., dict[str, Any]]


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
        return _shown(whole)


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
            if self._failed:
                raise StoreError(f"{self._url}: a part of it could not be uploaded; run the same command again")
            if self._upload or len(self._buffer) > INLINE_BYTES:
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
        if self._upload and not sys.is_finalizing():
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

    def _send(self) -> None:
        if not self._buffer:
            return
        number = len(self._parts) + len(self._pending) + 1
        if number > MAX_PARTS:
            raise StoreError(
                f"{self._url}: over {MAX_PARTS * PART_BYTES:,} bytes, the most that this program writes as one "
                "object; make it smaller, such as by fewer samples a shard"
            )
        if not self._upload:
            self._upload = _begin(self._url, self._attempt)
        self._collect(PARTS_AT_ONCE - 1)
        task = client().threads.submit(_upload_part, self._url, self._upload, number, self._buffer)
        self._pending.append(task)
        self._buffer = bytearray()

    def _collect(self, left: int) -> None:
        """Waits until only so many parts are under way."""
        while len(self._pending) > left:
            task = self._pending[0]
            try:
                self._parts.append(task.result())
            except BaseException:
                self._failed = True
                raise
            self._pending.popleft()


def complete(url: S3Url, attempt: str, written: Written, anew: bool = False) -> None:
    """Makes what was written the object, whole and at once; with `anew` only where there is none yet.

    An answer may be lost after the write took effect, and the repeated request then be refused: the object's
    metadata tell whether it did.

    Raises:
        PresentError: `anew`, and an object of another attempt is there. That is the store's own word where it
            knows conditional writes (`If-None-Match`). Where it ignores or refuses them, it is looked at before and
            after: of two at the same instant the last stays, whole, and the first may not learn of it.
        StoreError: The store refused; nothing is visible of it.
    """
    store = client()
    if anew and (head := store.head(url)) and stat_of(head).attempt != attempt:
        raise _present(url)
    write = _finish if written.upload else _put
    with store.told(url):
        try:
            answer = _conditionally(write, anew, store, url, attempt, written)
        except client_faults() as error:
            if _is_mine(store, url, attempt, written):
                return
            if code_of(error) == "PreconditionFailed":
                raise _present(url) from error
            raise
    if (
        (anew or answer.get("ChecksumCRC32") != written.crc32)
        and not _is_mine(store, url, attempt, written)
        and anew
    ):
        raise _present(url)


def _conditionally(write: Write, anew: bool, *what: Any) -> dict[str, Any]:
    """Without the condition where the store does not know it."""
    try:
        return write(*what, {"IfNoneMatch": "*"} if anew else {})
    except client_faults() as error:
        if not anew or code_of(error) != "NotImplemented":
            raise
    return write(*what, {})


def _present(url: S3Url) -> PresentError:
    return PresentError(f"{url}: an object is there already; remove it, or choose another place")


def discard(url: S3Url, upload: str) -> None:
    """Aborts an upload; one that is not there is no error."""
    store = client()
    with store.told(url):
        try:
            store.s3.abort_multipart_upload(Bucket=url.bucket, Key=url.key, UploadId=upload)
        except client_faults() as error:
            if code_of(error) not in {"NoSuchUpload", "404"}:
                raise


def _begin(url: S3Url, attempt: str) -> str:
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


def _upload_part(url: S3Url, upload: str, number: int, body: bytearray) -> Part:
    store = client()
    crc32 = zlib.crc32(body)
    with store.told(url):
        answer = store.s3.upload_part(
            Bucket=url.bucket,
            Key=url.key,
            UploadId=upload,
            PartNumber=number,
            Body=body,
            **_checks(store, body, crc32),
        )
    store.tells_crc32 = told = _is_told(url, answer, _shown(crc32))
    return Part(answer["ETag"], crc32, len(body), told)


def _put(store: Client, url: S3Url, attempt: str, written: Written, condition: dict[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = store.s3.put_object(
        Bucket=url.bucket,
        Key=url.key,
        Body=written.payload,
        Metadata={"attempt": attempt},
        **_checks(store, written.payload, zlib.crc32(written.payload)),
        **condition,
    )
    return answer


def _finish(store: Client, url: S3Url, attempt: str, written: Written, condition: dict[str, str]) -> dict[str, Any]:
    parts = [
        {"PartNumber": number, "ETag": part.etag, **({"ChecksumCRC32": _shown(part.crc32)} if part.told else {})}
        for number, part in enumerate(written.parts, start=1)
    ]
    answer: dict[str, Any] = store.s3.complete_multipart_upload(
        Bucket=url.bucket,
        Key=url.key,
        UploadId=written.upload,
        MultipartUpload={"Parts": parts},
        ChecksumCRC32=written.crc32,
        ChecksumType="FULL_OBJECT",
        MpuObjectSize=written.size,
        **condition,
    )
    return answer


def _checks(store: Client, body: bytes | bytearray, crc32: int) -> dict[str, str]:
    """Stores of today check the first, and say so; for all others the second, which costs three times as much."""
    checks = {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": _shown(crc32)}
    if not store.tells_crc32:
        checks["ContentMD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return checks


def _is_told(url: S3Url, answer: dict[str, Any], crc32: str) -> bool:
    """Whether the store gives the checksum of what it got. Raises StoreError where it is another."""
    found = answer.get("ChecksumCRC32")
    if found and found != crc32:
        raise StoreError(f"{url}: the store got bytes of CRC32 {found}, not {crc32}; run the same command again")
    return bool(found)


def _is_mine(store: Client, url: S3Url, attempt: str, written: Written) -> bool:
    """Whether the object is the one of this attempt. Raises StoreError where it is, and is damaged."""
    head = store.head(url, ChecksumMode="ENABLED")
    if head is None or stat_of(head).attempt != attempt:
        return False
    if (found := head["ContentLength"]) != written.size:
        raise StoreError(f"{url}: the store holds {found} bytes, not {written.size}; run the same command again")
    if head.get("ChecksumType") == "FULL_OBJECT":
        _is_told(url, head, written.crc32)
    return True


def _shown(crc32: int) -> str:
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()
