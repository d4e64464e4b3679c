"""A real S3 server for a test: moto's, on 127.0.0.1, which keeps a log of requests and can be told to misbehave."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3

BUCKET = "models"
ACCESS = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "do-not-tell-anyone"}


class Store:
    """The server: its requests, and what stands between them and moto."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.asked: list[tuple[str, str]] = []
        """Method and path with query of each request."""
        self.before: Callable[[dict[str, Any]], tuple[str, str] | None] = lambda _: None
        """Sees a request first; may answer it with a status and a body, or change it."""
        self.cut = 0
        """How many of the next bodies break off half way."""
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.endpoint = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.client = boto3.session.Session().client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id="AKIAOWNER", aws_secret_access_key="owner",  # noqa: S106
        )  # fmt: skip
        self.empty()

    def empty(self) -> None:
        """As it was at the start."""
        from moto.s3.models import s3_backends

        self.before, self.cut = lambda _: None, 0
        for account in s3_backends.values():
            account.reset()
        self.client.create_bucket(Bucket=BUCKET)
        self.asked.clear()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        query = environ.get("QUERY_STRING", "")
        self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"] + (f"?{query}" if query else "")))
        if told := self.before(environ):
            status, body = told
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body.encode()]
        answer = self._moto(environ, start_response)
        if self.cut and environ["REQUEST_METHOD"] == "GET":
            self.cut -= 1
            body = b"".join(answer)
            return [body[: len(body) // 2]]
        return answer

    def put(self, key: str, body: bytes, **more: Any) -> None:
        """An object under `key`; not in the log."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body, **more)
        self.asked.clear()

    def gets(self, end: str) -> list[str]:
        """Paths of GETs of objects whose key ends so."""
        return [path for method, path in self.asked if method == "GET" and path.split("?")[0].endswith(end)]

    def refuse(self, status: str, code: str, methods: str = "HEAD GET") -> None:
        """Answers as a store does that refuses."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>do-not-tell-anyone</Message></Error>"
        self.before = lambda environ: (status, body) if environ["REQUEST_METHOD"] in methods else None

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def running_store() -> Iterator[Store]:
    """With one empty bucket."""
    store = Store()
    try:
        yield store
    finally:
        store.stop()


def settings(store: Store, cache: Any) -> dict[str, str]:
    """Environment in which the code under test finds this store, and nothing of the machine's own settings."""
    return {
        **ACCESS,
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "XDG_CACHE_HOME": str(cache),
    }
