"""Keeps an engine full, starts it again when it is lost, and finds the prompt that ends it each time."""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from pipeline.conversations.allowance import Allowance
from pipeline.conversations.engine import (
    Completion,
    Engine,
    EngineLostError,
    PoisonError,
    Prompt,
    RequestError,
    misbound,
)  # fmt: skip
from pipeline.conversations.suspects import Suspect, Suspects
from schemas.base import Sha256

STALL_PARTS = 10
"""Silent ones in a row make a stall: a pause of this whole process ends one at most, and is not the engine's."""
CANCEL_S = 5.0
"""For prompts of a lost engine to let go; then they are left to themselves."""


@dataclass(eq=False)
class Flight(Suspect):
    """A prompt on its way to an answer."""

    prompt: Prompt = field(kw_only=True)
    address: Sha256 = field(kw_only=True)
    answer: "asyncio.Future[Completion]" = field(kw_only=True)
    """Done too where its caller gave up."""


class Serving:
    """One engine and those who wait for it. For one event loop; `run` does the work.

    The engine is started with the first prompt, so that who needs no reply loads no model.
    """

    def __init__(self, engine: Engine, allowance: Allowance, stall_s: float, restarts: int) -> None:
        self._engine, self._allowance = engine, allowance
        self._stall_s, self._restarts = stall_s, restarts
        self._queue: deque[Flight] = deque()
        self._suspects: Suspects[Flight] = Suspects()
        self._flying: dict[Flight, asyncio.Task[Completion]] = {}
        self._landed: list[tuple[Flight, asyncio.Task[Completion]]] = []
        self._open: set[Flight] = set()
        """All that are not answered."""
        self._held: list[tuple[Flight, str]] = []
        """Convicted, but nobody was answered since: it may be the engine that is ill."""
        self._stir = asyncio.Event()
        self._is_up = False
        self._silent = 0
        """Parts of `stall_s` since the engine last answered, or was first asked after a rest."""
        self._part_ends = 0.0
        """By the loop's clock."""
        self._barren = 0
        """Failed starts and convictions since the last answer."""
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    async def ask(self, prompt: Prompt, address: Sha256) -> Completion:
        """The reply to the prompt of this address. Raises as `Asker.ask`."""
        if self._error:
            raise self._error
        flight = Flight(prompt=prompt, address=address, answer=asyncio.get_running_loop().create_future())
        self._open.add(flight)
        self._queue.append(flight)
        self._stir.set()
        try:
            return await flight.answer
        finally:
            self._open.discard(flight)
            if task := self._flying.get(flight):
                task.cancel()

    async def run(self) -> None:
        """Until cancelled, or until the engine is given up; who waits then, or asks later, is told why."""
        try:
            while True:
                await self._turn()
        except Exception as error:
            self._error = error
            for flight in [*self._open]:
                _fail(flight, error)
            raise
        finally:
            self._landed = [(flight, task) for flight, task in self._flying.items() if task.done()]
            self._settle()
            for task in self._flying.values():
                task.cancel()

    def end(self, wait_s: float) -> None:
        """Ends the engine, also one that is being started or hangs; from any thread, after `run`."""
        at_work = self._thread if self._thread and self._thread.is_alive() else None
        self._engine.stop()
        if at_work:  # it may have been starting, and come to life after its end
            at_work.join(wait_s)
            self._engine.stop()

    async def _turn(self) -> None:
        if not self._flying:
            self._suspects.advance()
        await self._launch()
        if not self._flying and (self._suspects.active or self._queue):
            return
        self._sentence()
        await self._listen()
        if reason := self._settle():
            await self._lose(reason)

    @property
    def _line(self) -> deque[Flight]:
        return self._suspects.group if self._suspects.active else self._queue

    async def _launch(self) -> None:
        while len(self._flying) < max(1, self._engine.slots) and (flight := self._next()):
            if not self._is_up:
                await self._start()
                continue
            self._line.popleft()
            self._begin(flight)

    def _next(self) -> Flight | None:
        """The first in line that may begin now; refuses those that cost too much."""
        while line := self._line:
            flight = line[0]
            if not flight.answer.done():
                if self._allowance.admits(flight.prompt):
                    return flight
                if self._flying:  # these may end for less than was feared
                    return None
                _fail(flight, self._allowance.refusal(flight.prompt))
            line.popleft()
        return None

    def _begin(self, flight: Flight) -> None:
        self._allowance.begin(flight.prompt)
        if not self._flying:
            self._listen_anew()
        task = asyncio.ensure_future(self._engine.ask(flight.prompt))
        self._flying[flight] = task
        task.add_done_callback(partial(self._land, flight))

    def _land(self, flight: Flight, task: "asyncio.Task[Completion]") -> None:
        self._landed.append((flight, task))
        self._stir.set()

    def _sentence(self) -> None:
        """Tells the convicted, once the engine has answered somebody, or nobody is left to ask it."""
        if not self._barren or not (self._flying or self._queue or self._suspects.active):
            for flight, reason in self._held:
                _fail(flight, PoisonError(flight.prompt, reason))
            self._held.clear()

    async def _listen(self) -> None:
        """Until something ends, somebody asks, or the engine has been silent for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._part_ends if self._flying else None):
                await self._stir.wait()
        self._stir.clear()

    def _settle(self) -> str:
        """Passes on what ended. Returns how the engine was lost, if it was; its suspects stay in flight."""
        reasons = []
        landed, self._landed = self._landed, []
        for flight, task in landed:
            if self._flying.get(flight) is task and (reason := self._outcome(flight, task)):
                reasons.append(reason)
        if self._flying and not reasons and self._is_stalled():
            reasons.append(f"it answered none of {len(self._flying)} prompts for {self._stall_s:g} s")
        return reasons[0] if reasons else ""

    def _is_stalled(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now >= self._part_ends:
            self._silent += 1
            self._part_ends = now + self._stall_s / STALL_PARTS
        return self._silent >= STALL_PARTS

    def _listen_anew(self) -> None:
        self._silent = 0
        self._part_ends = asyncio.get_running_loop().time() + self._stall_s / STALL_PARTS

    def _outcome(self, flight: Flight, task: "asyncio.Task[Completion]") -> str:
        """Passes on how one ended. Returns how the engine was lost, if that is it."""
        error = None if task.cancelled() else task.exception()
        if not flight.answer.done() and (task.cancelled() or isinstance(error, EngineLostError)):
            return str(error or "it dropped a prompt")
        del self._flying[flight]
        self._allowance.end(flight.prompt, None if task.cancelled() or error else task.result())
        if not task.cancelled() and (not error or isinstance(error, RequestError)):
            self._barren = 0
            self._listen_anew()
        if not flight.answer.done():
            if error := error or misbound(flight.prompt.key, flight.address, task.result()):
                _fail(flight, error)
            else:
                flight.answer.set_result(task.result())
        return ""

    async def _lose(self, reason: str) -> None:
        """Ends a lost engine, and decides who is asked again, and how."""
        for task in self._flying.values():
            task.cancel()
        await asyncio.wait(self._flying.values(), timeout=CANCEL_S)
        self._settle()  # who was answered at the last moment is no suspect
        suspects = [flight for flight in self._flying if not flight.answer.done()]
        for flight in self._flying:
            self._allowance.end(flight.prompt)
        self._flying.clear()
        self._is_up = False
        culprit, freed = self._suspects.lost(suspects)
        self._queue.extendleft(reversed(freed))
        await self._in_thread(self._engine.stop)
        if culprit:
            self._held.append((culprit, reason))
            self._count(reason)

    async def _start(self) -> None:
        while not self._is_up:
            try:
                await self._in_thread(self._engine.start)
                self._is_up = True
            except EngineLostError as error:
                await self._in_thread(self._engine.stop)
                self._count(str(error))

    def _count(self, reason: str) -> None:
        self._barren += 1
        if self._barren > self._restarts:
            raise EngineLostError(
                f"the engine was lost, and {self._restarts} restarts brought no reply: {reason}; see what the "
                "engine wrote, and run the same command again: replies so far are kept"
            )

    def _in_thread(self, function: Callable[[], None]) -> Awaitable[None]:
        """In a thread that keeps no process from ending: what it does may hang."""
        promise: Future[None] = Future()
        promise.set_running_or_notify_cancel()

        def work() -> None:
            try:
                function()
                promise.set_result(None)
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                promise.set_exception(error)

        self._thread = threading.Thread(target=work, name="engine", daemon=True)
        self._thread.start()
        return asyncio.wrap_future(promise)


def _fail(flight: Flight, error: BaseException) -> None:
    if not flight.answer.done():
        flight.answer.set_exception(error)
