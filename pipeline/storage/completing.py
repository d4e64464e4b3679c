"""What was uploaded becomes the object: whole, at once, and once.

The store checks the whole against the checksum of all parts; the id of the attempt, in the object's metadata, tells
whose write it was that took effect.
"""

import zlib
from collections.abc import Callable
from typing import Any

from pipeline.storage.client import Client, client
from pipeline.storage.faults import PresentError, StoreError, client_faults, code_of
from pipeline.storage.reading import stat_of
from pipeline.storage.writing import Written, checks, is_told, shown
from schemas.stores import S3Url

Write = Callable[..., dict[str, Any]]


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


def _put(store: Client, url: S3Url, attempt: str, written: Written, condition: dict[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = store.s3.put_object(
        Bucket=url.bucket,
        Key=url.key,
        Body=written.payload,
        Metadata={"attempt": attempt},
        **checks(store, written.payload, zlib.crc32(written.payload)),
        **condition,
    )
    return answer


def _finish(store: Client, url: S3Url, attempt: str, written: Written, condition: dict[str, str]) -> dict[str, Any]:
    parts = [
        {"PartNumber": number, "ETag": part.etag, **({"ChecksumCRC32": shown(part.crc32)} if part.told else {})}
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


def _is_mine(store: Client, url: S3Url, attempt: str, written: Written) -> bool:
    """Whether the object is the one of this attempt. Raises StoreError where it is, and is damaged."""
    head = store.head(url, ChecksumMode="ENABLED")
    if head is None or stat_of(head).attempt != attempt:
        return False
    if (found := head["ContentLength"]) != written.size:
        raise StoreError(f"{url}: the store holds {found} bytes, not {written.size}; run the same command again")
    if head.get("ChecksumType") == "FULL_OBJECT":
        is_told(url, head, written.crc32)
    return True
