"""`ObjectStore`: list, stat and download from any store that speaks S3. The only `import boto3`.

Credentials, region, proxies and endpoint (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`) are boto3's own settings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pipeline.storage.checksums import check_file
from pipeline.storage.faults import LOG_IN, REACH, ChangedError, client_faults, is_mute, refusal
from pipeline.storage.files import published
from schemas.base import InputError
from schemas.stores import S3Url

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
"""Without a single byte."""
ATTEMPTS = 4
"""Of a request."""
RANGE_ATTEMPTS = 3
"""Of a part of a download that breaks off, each with the attempts of its request: 6 minutes of silence at most."""
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
    """One client. For one thread at a time; made anew in each process, never pickled."""

    def __init__(self) -> None:
        """Raises InputError for settings that the client cannot use."""
        import boto3
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        # The last is botocore's word for an endpoint that is no URL.
        faults: tuple[type[Exception], ...] = (*client_faults(), ValueError)
        config = Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries=retries)
        try:
            # A session of its own: the one that boto3 shares is not for threads.
            self._client: Any = boto3.session.Session().client("s3", config=config)
        except faults as error:
            told = "AWS_ENDPOINT_URL is no URL" if type(error) is ValueError else type(error).__name__
            raise InputError(f"settings of the object store cannot be used: {told}; {REACH}; {LOG_IN}") from error

    @property
    def endpoint(self) -> str:
        """Scheme, host and port of what is asked, without a name or password that stands before them."""
        parts = urlsplit(self._client.meta.endpoint_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def list_folder(self, folder: S3Url) -> list[S3Url]:
        """The objects right under a folder, by name. Raises InputError when there are none, or too many."""
        pages = self._client.get_paginator("list_objects_v2")
        found: list[S3Url] = []
        with self._told(folder):
            for page in pages.paginate(Bucket=folder.bucket, Prefix=folder.key, Delimiter="/"):
                found += [S3Url(folder.bucket, item["Key"]) for item in page.get("Contents", ())]
                if len(found) > MAX_LISTED:
                    raise InputError(f"{folder}: over {MAX_LISTED:,} objects; name the folder that is meant")
        found = sorted(url for url in found if not url.is_folder)  # some tools mark a folder by an empty object
        if not found:
            raise InputError(f"{folder}: no objects right under it; check its path")
        return found

    def stat(self, url: S3Url) -> Stored:
        """An object as it is now; its bytes are not read. Raises InputError when it cannot be read."""
        with self._told(url):
            head = self._client.head_object(Bucket=url.bucket, Key=url.key)
        if not head.get("ETag"):
            raise InputError(f"{url}: the store gives no ETag, so its content cannot be told from another; copy it")
        return Stored(url, head["ContentLength"], head["ETag"], head.get("VersionId", ""))

    def download(self, stored: Stored, path: Path) -> None:
        """Writes exactly the bytes of `stored` to `path`, durably; readers see all of the file or nothing.

        Raises InputError when the object is another by now, or cannot be read; OSError when the disk refuses.
        """
        from boto3.s3.transfer import TransferConfig

        pinned = {"VersionId": stored.version} if stored.version else {}
        # "classic": of the two transfer managers, the one whose requests pass through this client and its pins
        config = TransferConfig(preferred_transfer_client="classic", num_download_attempts=RANGE_ATTEMPTS)
        with published(path) as attempt, self._told(stored.url, seen=True), self._pinned(stored) as heads:
            self._client.download_file(
                stored.url.bucket,
                stored.url.key,
                str(attempt),
                {"ChecksumMode": "ENABLED", **pinned},
                Config=config,
            )
            check_file(attempt, stored.size, heads[-1] if heads else {}, str(stored.url))

    @contextmanager
    def _pinned(self, stored: Stored) -> Iterator[list[dict[str, Any]]]:
        """Every request asks for one ETag, and every answer is checked for it: not all stores heed the request.

        Yields the answers to HEAD requests, where checksums of whole objects stand.
        """
        heads: list[dict[str, Any]] = []

        def ask(params: dict[str, Any], **_: Any) -> dict[str, Any]:
            return {**params, "IfMatch": stored.etag}

        def check(parsed: dict[str, Any], model: Any, **_: Any) -> None:
            if "Error" not in parsed and parsed.get("ETag") != stored.etag:
                raise ChangedError(f"{stored.url} has ETag {parsed.get('ETag')}, not {stored.etag}")
            if "Error" not in parsed and model.name == "HeadObject":
                heads.append(parsed)

        events = self._client.meta.events
        hooks = [
            (f"{moment}.s3.{operation}", hook)
            for moment, hook in (("provide-client-params", ask), ("after-call", check))
            for operation in ("HeadObject", "GetObject")
        ]
        for name, hook in hooks:
            events.register(name, hook)
        try:
            yield heads
        finally:
            for name, hook in hooks:
                events.unregister(name, hook)

    @contextmanager
    def _told(self, url: S3Url, seen: bool = False) -> Iterator[None]:
        """Raises InputError for what the client raises; `seen` is whether the object was there before."""
        try:
            yield
        except client_faults() as error:
            raise refusal(url, self._in_words(url, error), self.endpoint, seen) from error

    def _in_words(self, url: S3Url, error: Exception) -> Exception:
        """The refusal of a GET in place of that of a HEAD, which has no body that could say why."""
        if not is_mute(error):
            return error
        try:
            self._client.get_object(Bucket=url.bucket, Key=url.key, Range="bytes=0-0")["Body"].close()
        except client_faults() as told:
            return told
        return error
