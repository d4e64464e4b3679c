"""`ObjectStore`: what is fetched from a store to be kept on this machine, such as weights: list, stat, download."""

import shutil
from pathlib import Path
from typing import NamedTuple

from pipeline.storage import listing
from pipeline.storage.checksums import check_file
from pipeline.storage.files import published
from pipeline.storage.reading import BLOCK_BYTES, ObjectReader, pinned_head, stat, stat_of
from schemas.base import InputError
from schemas.stores import S3Url

MAX_LISTED = 10_000
"""Objects right under a folder; more is a mistake in the URL, and would be listed for minutes."""


class Stored(NamedTuple):
    """One object as it was seen: enough to ask for these bytes and no others."""

    url: S3Url
    size: int
    """Bytes."""
    etag: str
    """As the store writes it, in quotes."""
    version: str
    """Empty where the bucket keeps no versions."""


class ObjectStore:
    """Any store that speaks S3."""

    def list_folder(self, folder: S3Url) -> list[S3Url]:
        """The objects right under a folder, by name. Raises InputError when there are none, or too many."""
        found: list[S3Url] = []
        for page in listing.pages("list_objects_v2", folder, Delimiter="/"):
            found += [S3Url(folder.bucket, item["Key"]) for item in page.get("Contents", ())]
            if len(found) > MAX_LISTED:
                raise InputError(f"{folder}: over {MAX_LISTED:,} objects; name the folder that is meant")
        found = sorted(url for url in found if not url.is_folder)  # some tools mark a folder by an empty object
        if not found:
            raise InputError(f"{folder}: no objects right under it; check its path")
        return found

    def stat(self, url: S3Url) -> Stored:
        """An object as it is now; its bytes are not read. Raises InputError when it cannot be read."""
        found = stat(url)
        if not found.etag:
            raise InputError(f"{url}: the store gives no ETag, so its content cannot be told from another; copy it")
        return Stored(url, found.st_size, found.etag, found.version)

    def download(self, stored: Stored, path: Path) -> None:
        """Writes exactly the bytes of `stored` to `path`, durably; readers see all of the file or nothing.

        Raises InputError when the object is another by now, or cannot be read; OSError when the disk refuses.
        """
        head = pinned_head(stored.url, stored.etag, stored.version)
        with published(path) as attempt:
            with ObjectReader(stored.url, stat_of(head)) as reader, attempt.open("wb") as file:
                shutil.copyfileobj(reader, file, BLOCK_BYTES)
            check_file(attempt, stored.size, head, str(stored.url))
