"""One client of the object store for each process: its settings, its retries, and its errors told as a user's.

Credentials, region, proxies and endpoint (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`) are boto3's own settings.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pipeline.storage.faults import LOG_IN, REACH, StoreError, client_faults, is_mute, refusal
from schemas.stores import S3Url

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
"""Without a single byte."""
ATTEMPTS = 5
"""Of a request that meets a 500, a 503, a reset or silence; 7 s of waits in the mean, by boto3's jitter."""
CONNECTIONS = 32
"""Kept open."""
THREADS = 8
"""Which carry parts and blocks; a reader or a writer has few of them under way at once."""


class Client:
    """The boto3 client, which is for all threads of one process, and what belongs to it."""

    def __init__(self) -> None:
        """Raises StoreError for settings that the client cannot use."""
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=CONNECTIONS,
            # Checksums are this package's own: some stores answer a range with the checksum of the whole object.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        # The last is botocore's word for an endpoint that is no URL.
        faults: tuple[type[Exception], ...] = (*client_faults(), ValueError)
        try:
            # A session of its own: the one that boto3 shares is not for threads.
            self.s3: Any = boto3.session.Session().client("s3", config=config)
        except faults as error:
            told = "AWS_ENDPOINT_URL is no URL" if type(error) is ValueError else type(error).__name__
            raise StoreError(f"settings of the object store cannot be used: {told}; {REACH}; {LOG_IN}") from error
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._seen_buckets: set[str] = set()

    @property
    def endpoint(self) -> str:
        """Scheme, host and port of what is asked, without a name or password that stands before them."""
        parts = urlsplit(self.s3.meta.endpoint_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @contextmanager
    def told(self, url: S3Url, seen: bool = False) -> Iterator[None]:
        """Raises StoreError for what the client raises; `seen` is whether the object was there before."""
        try:
            yield
        except client_faults() as error:
            raise refusal(url, self._in_words(url, error), self.endpoint, seen) from error

    def head(self, url: S3Url, **more: Any) -> dict[str, Any] | None:
        """The answer to a HEAD; None where the bucket is there and the object is not. Raises StoreError."""
        from botocore.exceptions import ClientError

        with self.told(url):
            try:
                answer: dict[str, Any] = self.s3.head_object(Bucket=url.bucket, Key=url.key, **more)
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if status != 404 or more.get("VersionId") or not self._has_bucket(url):
                    raise
                return None
            self._seen_buckets.add(url.bucket)
            return answer

    def _has_bucket(self, url: S3Url) -> bool:
        """Asked once: the refusal of a HEAD does not say which of the two is absent."""
        from pipeline.storage.faults import code_of

        if url.bucket not in self._seen_buckets:
            try:
                self.s3.get_object(Bucket=url.bucket, Key=url.key, Range="bytes=0-0")["Body"].close()
            except client_faults() as error:
                if code_of(error) != "NoSuchKey":
                    return False
            self._seen_buckets.add(url.bucket)
        return True

    def _in_words(self, url: S3Url, error: Exception) -> Exception:
        """The refusal of a GET in place of that of a HEAD, which has no body that could say why."""
        if not is_mute(error):
            return error
        try:
            self.s3.get_object(Bucket=url.bucket, Key=url.key, Range="bytes=0-0")["Body"].close()
        except client_faults() as told:
            return told
        return error


def client() -> Client:
    """This process's. A child of a fork makes its own: connections and threads are not inherited."""
    return _client_of(os.getpid())


@cache
def _client_of(_: int) -> Client:
    return Client()


def forget() -> None:
    """Lets the next call make a client anew, by the settings of then."""
    _client_of.cache_clear()
