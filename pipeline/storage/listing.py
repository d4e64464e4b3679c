"""Lists of a store: of objects and of unfinished uploads. A store may answer with a list of some time ago."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pipeline.storage.client import client
from pipeline.storage.faults import AbsentError
from pipeline.storage.reading import Stat, stat_of
from schemas.stores import S3Url


def any_under(folder: S3Url) -> bool:
    """Whether a key begins with that of `folder`, which ends in `/`."""
    store = client()
    with store.told(folder):
        answer = store.s3.list_objects_v2(Bucket=folder.bucket, Prefix=folder.key, MaxKeys=1)
    return bool(answer.get("Contents"))


def under(folder: S3Url) -> Iterator[tuple[str, Stat]]:
    """Keys at any depth, by name; an object that some tools put to mark a folder is left out."""
    for page in pages("list_objects_v2", folder):
        for item in page.get("Contents", ()):
            if not item["Key"].endswith("/"):
                seen = stat_of({**item, "ContentLength": item["Size"]})
                yield (
                    item["Key"],
                    seen._replace(etag=f'"{seen.etag.strip(chr(34))}"'),
                )  # some stores leave the quotes out


def right_under(folder: S3Url) -> Iterator[str]:
    """Keys right under it, of objects and folders, by name, without a `/` at the end."""
    for page in pages("list_objects_v2", folder, Delimiter="/"):
        names = {item["Key"] for item in page.get("Contents", ())}
        names |= {item["Prefix"].rstrip("/") for item in page.get("CommonPrefixes", ())}
        yield from sorted(name for name in names if not name.endswith("/") and name != folder.key)


def uploads(folder: S3Url) -> Iterator[tuple[S3Url, str]]:
    """Objects under it whose upload was never completed, and the store's id of that."""
    with suppress(AbsentError):  # some stores say NoSuchUpload where there is none
        for page in pages("list_multipart_uploads", folder):
            for item in page.get("Uploads", ()):
                yield S3Url(folder.bucket, item["Key"]), item["UploadId"]


def uploaded(url: S3Url, upload: str) -> int:
    """Bytes that an unfinished upload holds; 0 for one that went away since it was listed."""
    size = 0
    with suppress(AbsentError):
        for page in pages("list_parts", url, Key=url.key, UploadId=upload):
            size += sum(part["Size"] for part in page.get("Parts", ()))
    return size


def pages(operation: str, url: S3Url, **more: Any) -> Iterator[dict[str, Any]]:
    """The answers of one of the client's paginators, under the key of `url` where `more` names none."""
    store = client()
    asked = more if "Key" in more else {"Prefix": url.key, **more}
    with store.told(url):
        yield from store.s3.get_paginator(operation).paginate(Bucket=url.bucket, **asked)
