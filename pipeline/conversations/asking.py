"""Asks an engine so that nothing is asked twice: through the request cache, with as many in flight as it takes.

    async def write(asker, request):
        completion = await asker.ask(prompt_of(request))

    with Asker(engine, cache, stall_s=300) as asker:
        talks = asker.run(write(asker, request) for request in requests)

`run` may be called by any number of threads at once: the engine stays full while one batch ends and another begins.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import TimeoutError as SlowError
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pipeline.conversations.allowance import Allowance, AllowanceError
from pipeline.conversations.cache import RequestCache
from pipeline.conversations.engine import Completion, Engine, PoisonError, Prompt
from pipeline.conversations.serving import Serving
from schemas.base import Sha256

__all__ = ["Allowance", "AllowanceError", "Asker", "PoisonError"]

COMMIT_S = 1.0
"""For more replies to join a commit: what a kill may cost, and what a reply may wait."""
COMMIT_REPLIES = 256
"""That do not wait for more."""
CLOSE_S = 30.0
"""For a hung loop or engine to come to an end, before it is left to itself."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Asker:
    """The only way to an engine. It takes over `engine`: starts it when it must, and ends it.

    Args:
        engine: Not started.
        cache: Of replies; a reply is handed on once it is in there for good.
        stall_s: An engine with prompts in flight that answers none of them for so long counts as hung.
        restarts: Most failed starts, or prompts found to be poison, in a row without an answer to anybody.
        allowance: What may be spent; no limit if there is none.
        commit_s: How long a reply waits for others that are committed with it.
    """

    def __init__(
        self,
        engine: Engine,
        cache: RequestCache,
        *,
        stall_s: float,
        restarts: int = 3,
        allowance: Allowance | None = None,
        commit_s: float = COMMIT_S,
    ) -> None:
        self._cache = cache
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asker", daemon=True)
        self._serving = Serving(engine, allowance or Allowance(), stall_s, restarts)
        self._lookups: _Batches[Sha256, Completion | None] = _Batches(cache.get_many)
        self._commits: _Batches[tuple[Prompt, Completion], None] = _Batches(self._commit, commit_s, COMMIT_REPLIES)
        self._shared: dict[Sha256, _Shared] = {}
        self._closing = threading.Lock()
        self._is_open = True
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._served(), self._loop).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
        """What they return, in order. They run side by side, and beside those of other threads.

        Raises what one of them raises first. The others are cancelled then; but not after an AllowanceError: what
        was begun is paid for, and ends. Raises CancelledError (of concurrent.futures) where `close` ends it.
        """
        future = asyncio.run_coroutine_threadsafe(_gathered(coroutines), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def ask(self, prompt: Prompt) -> Completion:
        """The reply, from the cache or the engine; for coroutines of `run`. The same prompt is asked only once.

        Raises:
            RequestError: The engine refused this prompt.
            PoisonError: This prompt ends the engine each time.
            AllowanceError: It could cost more than is left.
            EngineLostError: The engine is given up, for everybody.
            BindingError: The engine answered under another name.
        """
        address = prompt.address
        shared = self._shared.get(address)
        if shared is None:
            shared = self._shared[address] = _Shared(asyncio.ensure_future(self._obtain(prompt, address)))
        shared.callers += 1
        try:
            completion = await asyncio.shield(shared.task)
        finally:
            shared.callers -= 1
            if not shared.callers:
                self._shared.pop(address)
                shared.task.cancel()
        return completion if completion.key == prompt.key else completion.model_copy(update={"key": prompt.key})

    def close(self) -> None:
        """Commits what came, ends the engine, the loop and its thread; also where the engine hangs."""
        with self._closing:
            if not self._is_open:
                return
            self._is_open = False
            shut = asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
            try:
                with suppress(SlowError):
                    shut.result(CLOSE_S)
            finally:
                self._serving.end(CLOSE_S)
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(CLOSE_S)
                if not self._thread.is_alive():
                    self._loop.close()

    async def _obtain(self, prompt: Prompt, address: Sha256) -> Completion:
        if kept := await self._lookups.result(address):
            return kept
        completion = await self._serving.ask(prompt, address)
        await self._commits.result((prompt, completion))
        return completion

    def _commit(self, replies: Sequence[tuple[Prompt, Completion]]) -> list[None]:
        for prompt, completion in replies:
            self._cache.put(prompt, completion)
        self._cache.flush()
        return [None] * len(replies)

    async def _served(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self._serving.run())

    async def _shut(self) -> None:
        self._server.cancel()
        await asyncio.gather(self._server, return_exceptions=True)
        await asyncio.sleep(0)  # replies of the last moment go where they are committed
        try:
            await self._commits.drain()
        finally:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._loop.shutdown_default_executor()


@dataclass
class _Shared:
    """A prompt that is being asked, for all who ask it."""

    task: "asyncio.Future[Completion]"
    callers: int = 0


class _Batches(Generic[Item, Result]):
    """Joins single calls into calls of `work` on many, one at a time, in a thread."""

    def __init__(self, work: Callable[[list[Item]], Sequence[Result]], wait_s: float = 0.0, full: int = 1) -> None:
        self._work, self._wait_s, self._full = work, wait_s, full
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._hurry = asyncio.Event()
        """Wait for no more."""
        self._task: asyncio.Task[None] | None = None

    async def result(self, item: Item) -> Result:
        """Of `work`, for this item."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._waiting) >= self._full:
            self._hurry.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def drain(self) -> None:
        """Until nothing waits."""
        while self._task and not self._task.done():
            self._hurry.set()
            await asyncio.wait({self._task}, timeout=0.05)

    async def _run(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s):
                    await self._hurry.wait()
            self._hurry.clear()
            batch, self._waiting = self._waiting, []
            await self._answer(batch)

    async def _answer(self, batch: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await asyncio.to_thread(self._work, [item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - raised to each of them
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


async def _gathered(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    waiting, errors = set(tasks), list[BaseException]()
    try:
        while waiting and all(isinstance(error, AllowanceError) for error in errors):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            raised = [task.exception() for task in done if not task.cancelled()]
            errors = [error for error in raised if error] + errors
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    if errors:
        raise errors[0]
    return [task.result() for task in tasks]
