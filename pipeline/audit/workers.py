"""One task for each name, in processes; results come in the order of the names, whoever is done first.

`concurrent.futures` cannot say which task killed a process; here each process has a pipe of its own, and what
it was at is known.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

Result = TypeVar("Result")
_AHEAD = 4
"""Results a worker that may wait for an earlier one: what bounds the memory."""

_KEPT = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "268435456"}
_WORTH_A_START = 1 << 30
"""Bytes of tars a worker: a core hashes them in about the time in which a process starts."""


class WorkerError(RuntimeError):
    """A worker raised; the message names what it was at."""


class WorkerDeathError(WorkerError):
    """A worker ended without an answer."""


def worth_starting(size_bytes: int) -> int:
    """Workers for tars of that many bytes: as many as there are cores, if each has more to do than to start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, size_bytes // _WORTH_A_START))


def in_order(task: Callable[[str], Result], names: Sequence[str], workers: int) -> Generator[Result, None, None]:
    """`task(name)` of each name, in their order; with one worker in this process.

    Close the iterator where it is not read to its end. Raises WorkerError.

    Args:
        task: Pickled, once a worker.
        names: What to do.
        workers: Processes at most; started anew, not forked, so that they share no lock with this one.
    """
    workers = min(workers, len(names))
    if workers <= 1:
        yield from map(task, names)
        return
    pool = [_start(task) for _ in range(workers)]
    try:
        yield from _results(pool, names)
    finally:
        for worker in pool:
            worker.process.kill()
        for worker in pool:
            worker.process.join()
            worker.pipe.close()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    number: int = -1
    """Of the name it is at; negative while it waits for one."""


def _start(task: Callable[[str], object]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(task, theirs), daemon=True)
    with _kept_memory():
        process.start()
    theirs.close()  # now its death is the end of the pipe
    return _Worker(process, ours)


@contextmanager
def _kept_memory() -> Iterator[None]:
    """Processes started here keep freed memory: glibc gives each array's back, and a new page costs a fault."""
    before = {name: os.environ.get(name) for name in _KEPT}
    os.environ.update({name: value for name, value in _KEPT.items() if before[name] is None})
    try:
        yield
    finally:
        for name in (name for name, value in before.items() if value is None):
            del os.environ[name]


def _results(pool: Sequence[_Worker], names: Sequence[str]) -> Generator[Any, None, None]:
    ready: dict[int, Any] = {}
    begun = given = 0
    while given < len(names):
        for worker in pool:
            if worker.number < 0 and begun < min(len(names), given + _AHEAD * len(pool)):
                _hand(worker, begun, names[begun])
                begun += 1
        answered = wait([worker.pipe for worker in pool if worker.number >= 0])
        for worker in (each for each in pool if each.pipe in answered):
            ready[worker.number] = _received(worker, names[worker.number])
            worker.number = -1
        while given in ready:
            yield ready.pop(given)
            given += 1


def _hand(worker: _Worker, number: int, name: str) -> None:
    worker.number = number
    try:
        worker.pipe.send(name)
    except OSError:
        raise _death(worker, name) from None


def _received(worker: _Worker, name: str) -> Any:
    try:
        good, result = worker.pipe.recv()
    except (EOFError, OSError):
        raise _death(worker, name) from None
    if not good:
        raise WorkerError(f"{name}: a worker failed:\n{result}")
    return result


def _death(worker: _Worker, name: str) -> WorkerDeathError:
    worker.process.join(5)
    status = worker.process.exitcode
    return WorkerDeathError(
        f"{name}: the worker that read it died (exit status {status}): out of memory, or killed; "
        "the same command with --workers 1 reads it in the command's own process"
    )


def _serve(task: Callable[[str], object], pipe: Connection) -> None:
    """A worker's whole life; it ends with its parent, whose end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told too, and ends its workers
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, object] = (True, task(name))
        except Exception:  # noqa: BLE001 - told to the parent, which stops
            answer = (False, traceback.format_exc())
        pipe.send(answer)
