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

from pipeline.storage.faults import LOG_IN, REACH, StoreError, client_faults, code_of, is_mute, refusal
from pipeline.storage.retries import wait_s
from schemas.stores import S3Url

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
"""Without a single byte."""
CONNECTIONS = 32
"""Kept open."""
THREADS = 8
"""Which carry parts and blocks; a reader or a writer has few of them under way at once."""


class Client:
    """The boto3 client, which is for all threads of one process, and what belongs to it."""

    def __init__(self) -> None:
        """Raises StoreError for settings that the client cannot use."""
        try:
            import awscrt  # noqa: F401
            import boto3
            from botocore.config import Config
        except ModuleNotFoundError as error:
            raise StoreError(
                "object stores need boto3 with its `crt`: pip install 'video-mixture[build]'"
            ) from error
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": 1},  # `wait_s` decides instead
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
        self.s3.meta.events.register("needs-retry.s3", wait_s)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self.tells_crc32 = False
        """Whether the store answers a write with the checksum of what it got; seen at the first write."""
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
        with self.told(url):
            try:
                answer: dict[str, Any] = self.s3.head_object(Bucket=url.bucket, Key=url.key, **more)
            except client_faults() as error:
                if code_of(error) != "404":
                    raise
                # Which of the two is absent, and whether it is a store that answers, is asked once for a bucket.
                if url.bucket not in self._seen_buckets:
                    code = code_of(self._in_words(url, error))
                    if code == "404":  # the body that says why was lost on its way
                        code = code_of(self._in_words(url, error))
                    if code != "NoSuchKey":
                        raise
                answer = {}
            self._seen_buckets.add(url.bucket)
        return answer or None

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
