"""A proxy before an object store that misbehaves as networks and stores do: by chance from a seed, or by plan.

In a test: `with running_proxy(endpoint, rate=0.1) as proxy`. As a process: `python tests/fault_proxy.py --to URL
--seed 1 --rate 0.1`, whose first line is the proxy's own URL. The `Host` header passes through, so signatures hold.
"""

import argparse
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

FAULTS = ("500", "503", "slow-down", "reset", "lost", "hang", "twice", "cut", "stale")
"""Three errors; the connection reset before the store saw the request; reset after the store did what it was
asked (a lost response); silence, then a reset; the request sent twice; a body that breaks off half way; an older
answer to the same list. By plan only: "damage", one bit of the request's body flipped on its way."""
_ERRORS = {"500": (500, "InternalError"), "503": (503, "ServiceUnavailable"), "slow-down": (503, "SlowDown")}
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


class Asked(NamedTuple):
    """One request, as a plan sees it."""

    method: str
    path: str
    """With query."""
    number: int
    """How often the same was asked before."""

    @property
    def operation(self) -> str:
        """The S3 name of what is asked, as far as tests tell apart."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if self.method == "GET" and ("list-type" in query or "uploads" in query):
            return "List"
        if self.method == "POST":
            return "Create" if "uploads" in query else "Complete" if "uploadId" in query else "DeleteMany"
        if self.method == "PUT":
            return "Part" if "uploadId" in query else "Put"
        return {"GET": "Get", "HEAD": "Head", "DELETE": "Abort" if "uploadId" in query else "Delete"}[self.method]


class Answer(NamedTuple):
    """Of the store."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class FaultProxy:
    """The server, on a port of its own; `plan(asked)` names the fault of a request, or None for none."""

    def __init__(self, to: str, seed: int = 0, rate: float = 0.0, faults: Sequence[str] = FAULTS) -> None:
        self.to, self.hang_s = urlsplit(to), 0.3
        self.log: list[tuple[str, str, str | None]] = []
        """Operation, path and fault of each request."""
        self.plan: Callable[[Asked], str | None] = self._chance
        self._seed, self._rate, self._faults = seed, rate, tuple(faults)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lists: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes no more requests."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def faults(self) -> Counter[str]:
        """How often each fault was made."""
        return Counter(fault for _, _, fault in self.log if fault)

    def _chance(self, asked: Asked) -> str | None:
        """By the request and how often it was made, not by the order in which threads come."""
        chance = random.Random(f"{self._seed} {asked}")
        return chance.choice(self._faults) if chance.random() < self._rate else None

    def choose(self, method: str, path: str) -> tuple[Asked, str | None]:
        """The request, counted, and its fault."""
        with self._lock:
            asked = Asked(method, path, self._counts[method, path])
            self._counts[method, path] += 1
            fault = self.plan(asked)
            self.log.append((asked.operation, path, fault))
        return asked, fault

    def pass_on(self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
        """The store's answer."""
        connection = http.client.HTTPConnection(str(self.to.hostname), self.to.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                if name.lower() not in _HOP:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            told = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def remembered(self, path: str, answer: Answer, stale: bool) -> Answer:
        """Keeps the answers to a list; gives one of before where it is to be stale."""
        with self._lock:
            answers = self._lists.setdefault(path, [])
            answers.append(answer)
            return answers[max(len(answers) - 4, 0)] if stale else answer


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked, fault = proxy.choose(self.command, self.path)
            if fault in _ERRORS:
                self._tell(_error(*_ERRORS[fault]))
                return
            if fault == "hang":
                time.sleep(proxy.hang_s)
            if fault in {"reset", "hang"}:
                self._reset()
                return
            if fault == "damage" and body:
                body = bytes([body[0] ^ 1]) + body[1:]
            request = (self.command, self.path, self.headers.items(), body)
            answer = proxy.pass_on(*request)
            if fault == "twice":
                answer = proxy.pass_on(*request)
            if asked.operation == "List" and answer.status == 200:
                answer = proxy.remembered(self.path, answer, fault == "stale")
            if fault == "lost":
                self._reset()
            else:
                self._tell(answer, cut=fault == "cut")

        do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

        def _tell(self, answer: Answer, cut: bool = False) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name, _ in answer.headers) and answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
            if cut:
                self.wfile.flush()
                self._reset()

        def _reset(self) -> None:
            self.close_connection = True
            try:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.shutdown(socket.SHUT_RD)
            except OSError:
                return  # the client was faster

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler


def _error(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by plan</Message></Error>".encode()
    return Answer(status, [("Content-Type", "application/xml")], body)


@contextmanager
def running_proxy(
    to: str, seed: int = 0, rate: float = 0.0, faults: Sequence[str] = FAULTS
) -> Iterator[FaultProxy]:
    """Stopped at the end of the block."""
    proxy = FaultProxy(to, seed, rate, faults)
    try:
        yield proxy
    finally:
        proxy.stop()


def main() -> None:
    """Runs until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", required=True, help="URL of the store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.1, help="share of requests with a fault")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS)
    given = parser.parse_args()
    proxy = FaultProxy(given.to, given.seed, given.rate, given.faults)
    print(proxy.endpoint, flush=True)  # noqa: T201
    threading.Event().wait()


if __name__ == "__main__":
    main()
