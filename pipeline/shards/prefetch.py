"""Reads that run ahead of their consumer: in threads, in order of delivery, within a bound of bytes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 8
"""Reads under way at once."""
TASK_BYTES = 4096
"""What a task takes besides its result, so that small ones are bounded too."""


class Task(NamedTuple, Generic[T, R]):
    """One read."""

    tag: T
    """Comes back with the result."""
    size: int
    """Of the result, bytes."""
    run: Callable[[], R]


def in_order(tasks: Iterable[Task[T, R]], ahead_bytes: int) -> Iterator[tuple[T, R]]:
    """The results of `tasks` in their order.

    Results that wait, and those under way, come to `ahead_bytes` at most, or are one. `tasks` is advanced in the
    caller's thread. With 0 bytes there is no thread at all. Raises what a task raises, in its turn.
    """
    if not ahead_bytes:
        for task in tasks:
            yield task.tag, task.run()
        return
    # No `with`: whoever stops listening does not wait for reads that hang.
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prefetch")
    try:
        yield from _pooled(iter(tasks), ahead_bytes, pool)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _pooled(tasks: Iterator[Task[T, R]], ahead_bytes: int, pool: ThreadPoolExecutor) -> Iterator[tuple[T, R]]:
    waiting: deque[tuple[Task[T, R], Future[R]]] = deque()
    held = 0
    upcoming = next(tasks, None)
    while waiting or upcoming:
        while upcoming and (not waiting or held + _bytes(upcoming) <= ahead_bytes):
            waiting.append((upcoming, pool.submit(upcoming.run)))
            held += _bytes(upcoming)
            upcoming = next(tasks, None)
        task, future = waiting.popleft()
        result = future.result()
        held -= _bytes(task)
        del future
        yield task.tag, result


def _bytes(task: Task[T, R]) -> int:
    return task.size + TASK_BYTES
