"""`EndpointEngine`: a chat model behind an OpenAI-compatible endpoint (`vllm serve`, TGI, a hosted one).

    {kind: endpoint, url: "http://host:8000/v1", api_key_env: LLM_KEY, max_num_seqs: 256}

Import it where it is used: httpx comes with the extra `build`.

What goes wrong, and whose fault it is:

    busy      429, 503                      waits as it is told, or longer each time; in the end the engine is lost
    away      nobody takes the connection   waits until somebody does; in the end the engine is lost
    broken    no answer to what was sent    sent again if the server is well, else lost: it may have died of it
    ill       500, no answer for long       lost
    refused   400, 413, 422, no reply       RequestError, others go on
    mistaken  401, 403, 404, a redirect     InputError, the run ends
"""

import asyncio
import os
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as SlowError
from contextlib import suppress
from itertools import count
from math import ceil
from typing import Any, NamedTuple, TypeVar

import httpx

from pipeline.conversations.chat_protocol import (
    body_of,
    completion_of,
    excerpt,
    request_id,
    retry_after_s,
    served_models,
)
from pipeline.conversations.engine import Completion, Engine, EngineLostError, Prompt, RequestError
from schemas.base import InputError
from schemas.llm import ChatModelSpec, EngineSpec

PATIENCE_S = 600.0
"""For a server that is busy or away: longer than it takes to load a 70B model again."""
CONNECT_S = 10.0
READ_STALLS = 4
"""An exchange may take so many times `EngineSpec.stall_s`, its place in the server's queue included."""
RESENDS = 2
"""Of a request whose answer was lost though the server is well."""
LONGEST_WAIT_S = 30.0
"""Between two tries, unless the server asks for more."""
MOST_BYTES = 8 << 20
"""Of an answer: far more than 131,072 tokens of text."""
CLIENT_SLOTS = 16
"""Prompts that share a client: its pool looks at each connection for each idle one whenever one changes."""
_IDLE_S = 2.0
"""A connection that rests for longer is not used again: servers close theirs after 5 s."""
_CLOSE_S = 5.0

Value = TypeVar("Value")


class _Answer(NamedTuple):
    """What came back on the wire."""

    status: int
    retry_after_s: float | None
    body: bytes


class _Try(Exception):  # noqa: N818 - says what it leads to
    """Trying again may help."""

    def __init__(self, reason: str, after_s: float | None = None, may_have_killed: bool = False) -> None:
        super().__init__(reason)
        self.after_s = after_s
        """As the server asked."""
        self.may_have_killed = may_have_killed
        """The server had the request, and no answer came of it."""


class EndpointEngine(Engine):
    """Asks a server that has the model, under the model's name.

    Args:
        model: Its `name` is what the server calls it.
        spec: `url`, `api_key_env`, `max_num_seqs` and `stall_s` are used.
        patience_s: How long the server may be busy or away before it counts as lost.
    """

    def __init__(self, model: ChatModelSpec, spec: EngineSpec, *, patience_s: float = PATIENCE_S) -> None:
        self.slots = spec.max_num_seqs
        self._model = model
        self._spec = spec
        self._patience_s = patience_s
        self._key = ""
        self._stopped: threading.Event | None = None
        self._clients: deque[httpx.AsyncClient] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Waits for the server, and checks its models. Raises InputError if it lacks ours, or wants a key."""
        _check_url(self._spec.url)
        self._key = _read_key(self._spec.api_key_env)
        self._stopped = threading.Event()
        # In a thread of its own: there may be a loop on this one.
        with ThreadPoolExecutor(1) as thread:
            names = thread.submit(lambda: asyncio.run(self._served_models())).result()
        if self._model.name not in names:
            raise InputError(
                f"{self._shown} serves {', '.join(map(repr, names[:20])) or 'no model'}, not {self._model.name!r}: "
                f"give the model in the recipe that name, or start the server with `--served-model-name "
                f"{self._model.name}`"
            )

    async def ask(self, prompt: Prompt) -> Completion:
        """See `Engine.ask`. Raises InputError where no prompt could be answered: a wrong key, no such model."""
        client = self._opened()
        broken = count(1)

        async def once() -> Completion:
            try:
                return await self._complete(client, prompt)
            except _Try as failure:
                if failure.may_have_killed and (next(broken) > RESENDS or not await self._is_well(client)):
                    raise EngineLostError(str(failure)) from None
                raise

        return await self._patiently(once)

    def stop(self) -> None:
        """Closes the connections, which ends what the server does for them."""
        if self._stopped:
            self._stopped.set()
        clients, loop, self._clients = self._clients, self._loop, deque()
        if not clients or not loop or not loop.is_running():
            return
        closing = asyncio.run_coroutine_threadsafe(_close(clients), loop)
        if loop is not _running_loop():
            with suppress(SlowError):
                closing.result(_CLOSE_S)

    @property
    def _shown(self) -> str:
        """The url as messages show it: what stands behind `?` may be secret."""
        return str(httpx.URL(self._spec.url).copy_with(query=None))

    def _at(self, path: str) -> httpx.URL:
        url = httpx.URL(self._spec.url)
        return url.copy_with(path=url.path.rstrip("/") + path)

    def _opened(self) -> httpx.AsyncClient:
        if self._stopped is None or self._stopped.is_set():
            raise EngineLostError("the engine is not started")
        if not self._clients:
            self._loop, context = asyncio.get_running_loop(), httpx.create_ssl_context()
            self._clients = deque(self._new_client(context) for _ in range(ceil(self.slots / CLIENT_SLOTS)))
        self._clients.rotate()
        return self._clients[0]

    def _new_client(self, verify: ssl.SSLContext | bool = True) -> httpx.AsyncClient:
        headers = {"Accept-Encoding": "identity"}  # so that a bound of bytes is one of memory
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.slots, keepalive_expiry=_IDLE_S)
        times = httpx.Timeout(None, connect=CONNECT_S)
        return httpx.AsyncClient(headers=headers, limits=limits, timeout=times, verify=verify)

    async def _patiently(self, once: Callable[[], Awaitable[Value]]) -> Value:
        """What `once` returns in the end. Raises EngineLostError when patience is at its end."""
        until_s = None
        for attempt in count():
            try:
                return await once()
            except _Try as failure:
                now_s = time.monotonic()
                until_s = until_s or now_s + self._patience_s
                wait_s = _backoff_s(attempt) if failure.after_s is None else failure.after_s + _backoff_s(0)
                if now_s + wait_s > until_s:
                    raise EngineLostError(f"{failure}, and {self._patience_s:g} s of patience are over") from None
            await self._rest(wait_s)
        raise AssertionError("count() ends")  # pragma: no cover

    async def _rest(self, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            if self._stopped is None or self._stopped.is_set():
                raise EngineLostError("the engine was stopped")
            await asyncio.sleep(min(left_s, 0.1))

    async def _complete(self, client: httpx.AsyncClient, prompt: Prompt) -> Completion:
        body, headers = body_of(prompt, self._model.name), {"X-Request-Id": request_id(prompt)}
        most_s = READ_STALLS * self._spec.stall_s
        answer = await self._exchange(client, "POST", "/chat/completions", most_s, json=body, headers=headers)
        try:
            return completion_of(prompt, answer.body)
        except RequestError as error:
            raise RequestError(self._hide(str(error))) from None

    async def _served_models(self) -> list[str]:
        no_endpoint = f"{self._shown} is no OpenAI-compatible endpoint; does the url end in /v1? Its /models:"
        async with self._new_client() as client:
            try:
                answer = await self._patiently(lambda: self._ask_models(client))
            except RequestError as error:
                raise InputError(f"{no_endpoint} {error}") from None
        names = served_models(answer.body)
        if names is None:
            raise InputError(f"{no_endpoint} {self._hide(excerpt(answer.body))}")
        return names

    async def _ask_models(self, client: httpx.AsyncClient) -> _Answer:
        try:
            return await self._exchange(client, "GET", "/models", CONNECT_S)
        except EngineLostError as error:  # as long as nothing was asked, an ill server may get well
            raise _Try(str(error)) from None

    async def _is_well(self, client: httpx.AsyncClient) -> bool:
        with suppress(RequestError, InputError):  # it answers
            try:
                await self._ask_models(client)
            except _Try:
                return False
        return True

    async def _exchange(
        self, client: httpx.AsyncClient, method: str, path: str, most_s: float, **request: Any
    ) -> _Answer:
        """A good answer. Raises as the head of this file says, and `_Try`."""
        if client.is_closed:
            raise EngineLostError("the engine was stopped")
        try:
            async with asyncio.timeout(most_s), client.stream(method, self._at(path), **request) as response:
                body = await _bounded(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise _Try(f"{self._shown} cannot be reached: {_name(error)}") from None
        except (TimeoutError, httpx.TimeoutException):
            raise EngineLostError(f"{self._shown} gave no answer for {most_s:g} s") from None
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise _Try(f"{self._shown} broke off: {_name(error)}", may_have_killed=True) from None
        after_s = retry_after_s(response.headers.get("Retry-After"))
        return self._judged(_Answer(response.status_code, after_s, body))

    def _judged(self, answer: _Answer) -> _Answer:
        status = answer.status
        if status == 200:
            return answer
        told = f"{self._shown} answered {status}: {self._hide(excerpt(answer.body))}"
        if status in (429, 503, 529):
            raise _Try(told, after_s=answer.retry_after_s)
        if status in (408, 502, 504) or 520 <= status <= 527:
            raise _Try(told, may_have_killed=True)
        if status in (401, 402, 403, 404, 405) or status < 400:
            raise InputError(f"{told}; model {self._model.name!r}: {self._mend(status)}")
        if status == 424 or status >= 500:  # 424 is TGI's failure to generate
            raise EngineLostError(told)
        raise RequestError(told)

    def _mend(self, status: int) -> str:
        if status in (401, 402, 403):
            variable = self._spec.api_key_env
            return (
                f"mend the key in {variable}" if variable else "name the variable that holds the key: api_key_env"
            )
        return "is the url the whole base, such as http://host:8000/v1, and the model served under this name?"

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


async def _close(clients: Iterable[httpx.AsyncClient]) -> None:
    for client in clients:
        await client.aclose()


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MOST_BYTES:
            raise RequestError(
                f"the server's answer is larger than {MOST_BYTES >> 20} MiB: {excerpt(bytes(body[:300]))}"
            )
    return bytes(body)


def _check_url(text: str) -> None:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError("engine.url is no http url: give the base of an endpoint, such as http://host:8000/v1")
    if url.userinfo:
        raise InputError(
            "engine.url holds a user or password: put the key into a variable, and its name in api_key_env"
        )


def _read_key(variable: str) -> str:
    """The key; never shown, whatever it is."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(f"api_key_env: the environment has no {variable}; set it where the workers run")
    if not key.isascii() or not key.isprintable():
        raise InputError(
            f"api_key_env: what {variable} holds cannot be a key: it has characters that no header takes"
        )
    return key


def _backoff_s(attempt: int) -> float:
    """Twice as long each time, and by chance, so that those who wait do not come back together."""
    return min(LONGEST_WAIT_S, 0.5 * 2.0 ** min(attempt, 20)) * random.uniform(0.5, 1.0)


def _name(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()[:200]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
