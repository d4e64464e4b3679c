"""Copies within a store, which pass through no machine of ours."""

import shutil
import uuid
from typing import Any

from pipeline.storage.client import Client, client
from pipeline.storage.completing import complete
from pipeline.storage.reading import ObjectReader, Stat
from pipeline.storage.writing import ObjectWriter, discard
from schemas.stores import S3Url

WHOLE_BYTES = 5 * 2**30
"""The most that one CopyObject takes."""
PIECE_BYTES = 2**30
"""Of a larger one."""


def copy_object(source: S3Url, seen: Stat, target: S3Url) -> None:
    """Makes `target` a copy of `source` as it was seen. Raises StoreError where that is another by now."""
    store = client()
    asked: dict[str, Any] = {
        "CopySource": {"Bucket": source.bucket, "Key": source.key}
        | ({"VersionId": seen.version} if seen.version else {}),
        "CopySourceIfMatch": seen.etag,
    }
    if seen.st_size <= WHOLE_BYTES:
        told = {"Metadata": {"attempt": uuid.uuid4().hex}, "MetadataDirective": "REPLACE"}
        with store.told(source, seen=True):
            store.s3.copy_object(Bucket=target.bucket, Key=target.key, **asked, **told)
    elif not _in_pieces(store, source, seen, target, asked):
        _through_here(source, seen, target)


def _in_pieces(store: Client, source: S3Url, seen: Stat, target: S3Url, asked: dict[str, Any]) -> bool:
    """False where the store knows no copies of ranges: such a one answers without an ETag."""
    with store.told(target):
        upload = store.s3.create_multipart_upload(
            Bucket=target.bucket, Key=target.key, Metadata={"attempt": uuid.uuid4().hex}
        )["UploadId"]
    here = {"Bucket": target.bucket, "Key": target.key, "UploadId": upload}
    done = False
    try:
        parts = []
        with store.told(source, seen=True):
            for number, start in enumerate(range(0, seen.st_size, PIECE_BYTES), start=1):
                end = min(start + PIECE_BYTES, seen.st_size) - 1
                answer = store.s3.upload_part_copy(
                    **here, PartNumber=number, CopySourceRange=f"bytes={start}-{end}", **asked
                )
                if not (etag := answer["CopyPartResult"].get("ETag")):
                    return False
                parts.append({"PartNumber": number, "ETag": etag})
            store.s3.complete_multipart_upload(**here, MultipartUpload={"Parts": parts})
            done = True
    finally:
        if not done:
            discard(target, upload)
    return True


def _through_here(source: S3Url, seen: Stat, target: S3Url) -> None:
    attempt = uuid.uuid4().hex
    with (
        ObjectReader(source, seen) as reader,
        ObjectWriter(target, attempt, lambda written: complete(target, attempt, written)) as writer,
    ):
        shutil.copyfileobj(reader, writer, 2**20)
