"""The reference runner: every stage in this process, every job in order."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol

from pipeline.runtime.contract import Keyed, Stage, calls_at_once, run_chain
from pipeline.runtime.records import keys_of
from pipeline.runtime.rows import write_rows
from pipeline.storage.files import attempt_path, scratch_path
from pipeline.storage.places import Place


@dataclass(frozen=True)
class Job:
    """One batch of inputs, and the file its outcomes will be committed to."""

    inputs: Sequence[Keyed]
    path: Place
    cost: int = 0
    """Of its inputs together: who has many workers begins with what costs most."""
    is_whole: bool = True
    """Else other rows are to join them in that file, so they must be readable before anything is committed."""

    def attempt_path(self) -> Place:
        """Where its outcomes are written."""
        return attempt_path(self.path) if self.is_whole else scratch_path(self.path)

    @property
    def batch(self) -> tuple[Keyed, ...]:
        """The inputs, read where they are not in memory: ask for it once."""
        return tuple(self.inputs)

    @property
    def keys(self) -> list[str]:
        """Of the inputs."""
        return keys_of(self.inputs)


@dataclass(frozen=True)
class Done:
    """A job whose outcomes lie in a file of its attempt; only the driver may commit it."""

    job: Job
    attempt: Place


class Runner(Protocol):
    """Runs jobs through a chain of stages. Whatever the runner, the outcomes are the same."""

    def run(self, stages: Sequence[Stage[Any, Any]], jobs: Iterable[Job]) -> Iterator[Done]:
        """Yields each job once, done, in any order; an exception of a stage ends the run."""


class LocalRunner:
    """Runs in this process; the oracle that the others are compared with."""

    def run(self, stages: Sequence[Stage[Any, Any]], jobs: Iterable[Job]) -> Iterator[Done]:
        """See `Runner.run`; jobs come back in order."""
        waiting = iter(jobs)
        first = next(waiting, None)
        if first is None:  # a pass with nothing left to do loads nothing
            return
        todo, at_once = chain([first], waiting), calls_at_once(stages)
        with ExitStack() as stack:
            if at_once > 1:
                # Entered first, so left last: closing the stages ends what the threads wait for.
                threads = stack.enter_context(ThreadPoolExecutor(at_once))
                set_up(stages, stack)
                yield from _side_by_side(stages, todo, threads, at_once)
            else:
                set_up(stages, stack)
                yield from (_do(stages, job, job.batch) for job in todo)


def set_up(stages: Sequence[Stage[Any, Any]], stack: ExitStack) -> None:
    """Sets up each stage; `close` follows for each that was begun, whatever happens."""
    for stage in stages:
        stack.callback(stage.close)
        stage.setup()


def _do(stages: Sequence[Stage[Any, Any]], job: Job, batch: Sequence[Keyed]) -> Done:
    attempt = job.attempt_path()
    write_rows(attempt, run_chain(stages, batch))
    return Done(job, attempt)


def _side_by_side(
    stages: Sequence[Stage[Any, Any]], jobs: Iterator[Job], threads: Executor, at_once: int
) -> Iterator[Done]:
    """In order of the jobs; but whichever fails first ends the run, wherever it stands."""
    order: deque[Future[Done]] = deque()
    working: set[Future[Done]] = set()
    while True:
        for job in islice(jobs, at_once - len(working)):
            order.append(threads.submit(_do, stages, job, job.batch))
            working.add(order[-1])
        while order and order[0].done():
            yield order.popleft().result()
        if not working:
            return
        ended, working = wait(working, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()
