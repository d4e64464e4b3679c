"""A chat endpoint for a test, on 127.0.0.1: it answers as vLLM's server does, and misbehaves when told to."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny"

Misbehaviour = Callable[["Handler", dict[str, Any]], bool]
"""Gets the request's body; True if it has answered, or will not."""


def reply_to(body: dict[str, Any], request_id: str) -> dict[str, Any]:
    """What vLLM answers: the last message back, in capitals."""
    message = {"role": "assistant", "content": body["messages"][-1]["content"].upper()}
    usage = {"prompt_tokens": 21, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 16}}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": f"chatcmpl-{request_id}", "model": body["model"], "choices": [choice], "usage": usage}


class ChatServer:
    """The server, what it was asked, and how it misbehaves."""

    def __init__(self, key: str = "", port: int = 0) -> None:
        self.key = key
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.looks = 0
        """At `/models`."""
        self.models = [MODEL]
        self.before: Misbehaviour = lambda *_: False
        self.before_models: Callable[[Handler], bool] = lambda _: False
        self.most_at_once = 0
        self.dropped = 0
        """Requests whose client went away before the answer."""
        self._at_once: Counter[str] = Counter()
        self._open: set[socket.socket] = set()
        self._server = Server(("127.0.0.1", port), Handler)
        self._server.owner = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def die(self) -> None:
        """As a killed process: nobody listens any more, and every connection ends without a word."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            reset(connection)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    owner: ChatServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the game."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    @property
    def owner(self) -> ChatServer:
        return self.server.owner

    def setup(self) -> None:
        super().setup()
        self.owner._open.add(self.connection)

    def finish(self) -> None:
        self.owner._open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self.owner.looks += 1
        if self.owner.before_models(self) or self._refused():
            return
        self.answer(200, {"object": "list", "data": [{"id": name} for name in self.owner.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.bodies.append(body)
        self.owner.headers.append(self.headers)
        self.owner._at_once["now"] += 1
        self.owner.most_at_once = max(self.owner.most_at_once, self.owner._at_once["now"])
        try:
            if not (self.owner.before(self, body) or self._refused()):
                self.answer(200, reply_to(body, self.headers["X-Request-Id"]))
        finally:
            self.owner._at_once["now"] -= 1

    def answer(self, status: int, body: Any, **headers: str) -> bool:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return True

    def error(self, status: int, message: str, **headers: str) -> bool:
        return self.answer(status, {"error": {"message": message, "code": status}}, **headers)

    def reset(self) -> bool:
        self.close_connection = True
        reset(self.connection)
        return True

    def wait_until_dropped(self) -> bool:
        """Works on a reply for ever, and sees whether the client goes."""
        self.connection.settimeout(0.05)
        for _ in range(400):
            with suppress(TimeoutError):
                if not self.connection.recv(1, socket.MSG_PEEK):
                    self.owner.dropped += 1
                    break
            time.sleep(0.01)
        self.close_connection = True
        return True

    def _refused(self) -> bool:
        if self.owner.key and self.headers["Authorization"] != f"Bearer {self.owner.key}":
            return self.error(401, f"Incorrect API key provided: {self.headers['Authorization']}")
        return False

    def log_message(self, *_: object) -> None:
        """Quiet."""


def reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        connection.close()


def first(number: int, act: Misbehaviour) -> Misbehaviour:
    """Misbehaves at the first requests only."""
    seen: list[int] = []

    def before(handler: Handler, body: dict[str, Any]) -> bool:
        seen.append(1)
        return len(seen) <= number and act(handler, body)

    return before


@contextmanager
def running_chat_server(key: str = "") -> Iterator[ChatServer]:
    server = ChatServer(key)
    try:
        yield server
    finally:
        server.die()
