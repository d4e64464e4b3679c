"""The Ray runner's books: what waits for which actors, and what each of them has to do."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from pipeline.runtime.contract import Keyed, Stage
from pipeline.runtime.local import Done, Job
from pipeline.runtime.located import PartRow
from pipeline.runtime.rows import write_rows
from pipeline.storage.files import scratch_path
from pipeline.storage.places import Place
from schemas.rejection import Rejection

TRIES = 2
"""Times a batch, and then a record of it alone, may end its worker."""


def longest_first(jobs: Iterable[Job]) -> list[Job]:
    """The order in which a pool begins jobs: by cost, greatest first; equal ones as they come.

    Whoever is free takes the next, so all are at work until the last job has begun: the end that some wait for
    another is no longer than one job, and as a rule one of the cheapest.
    """
    return sorted(jobs, key=lambda job: -job.cost)


@dataclass
class Split:
    """A job that goes through the pools in pieces, because as a whole it ended its workers."""

    job: Job
    outcomes: dict[str, PartRow | Rejection] = field(default_factory=dict)

    def add(self, batch: Sequence[Keyed], outcome: Place | Rejection) -> Iterator[Done]:
        """Takes a file with a row for each of `batch`, or the rejection of its one; the last makes the job done."""
        for row, record in enumerate(batch):
            self.outcomes[record.key] = outcome if isinstance(outcome, Rejection) else PartRow(outcome, row)
        if len(self.outcomes) < len(self.job.inputs):
            return
        found = [self.outcomes[key] for key in self.job.keys]
        attempt = self.job.attempt_path()
        write_rows(attempt, [each if isinstance(each, Rejection) else each() for each in found])
        for path in {each.path for each in found if isinstance(each, PartRow)}:
            path.unlink()
        yield Done(self.job, attempt)


@dataclass(eq=False)
class Task:
    """Records on their way through the pools: a job's, or a piece of them."""

    job: Job
    batch: tuple[Keyed, ...]
    payload: Any
    """The batch, or a reference to the outcomes of the stage before."""
    part_of: Split | None = None
    tries: int = 0
    """Times that it ended its worker; before the first it may have shared it."""
    size_bytes: int = 0
    """What the payload takes of the object store."""

    def attempt_path(self) -> Place:
        """Where its outcomes are written: of a part of a job so that they can be read before they are committed."""
        return scratch_path(self.job.path) if self.part_of else self.job.attempt_path()

    @property
    def goes_alone(self) -> bool:
        """Whether it ended a worker, perhaps."""
        return self.tries > 0 or self.part_of is not None

    def after_loss(self) -> list["Task"]:
        """What is tried after it ended its worker: the same again, its halves, or nothing: its record is poison.

        A worker takes minutes to load, so each loss must tell much: of n records one poison ends log2(n) + 3.
        """
        is_one = len(self.batch) == 1
        # A whole batch may have shared its worker when that was lost first: of one record this counts for nothing.
        most = (TRIES if is_one else 1) if self.part_of else TRIES + is_one
        if self.tries + 1 < most:
            return [Task(self.job, self.batch, self.batch, self.part_of, self.tries + 1)]
        if is_one:
            return []
        split, half = self.part_of or Split(self.job), len(self.batch) // 2
        pieces = (self.batch[:half], self.batch[half:])
        return [Task(self.job, piece, piece, split) for piece in pieces]


@dataclass(eq=False)
class Actor:
    """An actor and what it has to do."""

    handle: Any
    tasks: list[Task] = field(default_factory=list)
    loads_until: float = 0.0
    """Deadline of its set-up while that goes on; 0 once it is done."""


@dataclass
class Call:
    """One call in flight."""

    task: Task
    stage: int
    actor: Actor
    payload: Any
    deadline: float


@dataclass
class Pool:
    """The actors of one stage."""

    stages: tuple[Stage[Any, Any], ...]
    workers: int
    options: dict[str, float]
    calls_at_once: int = 1
    """Of one actor, in its stages."""
    calls_beside: int = 0
    """Of one actor, more than these: one may write, and be told, while all the others work."""
    largest_bytes: int = 0
    """The largest batch that came out so far."""
    actors: list[Actor] = field(default_factory=list)
    queue: deque[Task] = field(default_factory=deque)

    @property
    def places(self) -> int:
        """Batches that all actors work on at once."""
        return self.workers * self.calls_at_once

    def deadline_s(self, actor: Actor, call_s: float) -> float:
        """Until when the latest of an actor's tasks is done, if each call takes `call_s` once it has its turn."""
        return call_s * ceil(len(actor.tasks) / self.calls_at_once)

    @property
    def waiting_bytes(self) -> int:
        """Held by the batches in the queue."""
        return sum(task.size_bytes for task in self.queue)

    def free_for(self, task: Task) -> Actor | None:
        """The actor with the least to do, if it can take the task now."""
        ready = [actor for actor in self.actors if not actor.loads_until]
        if not ready:
            return None
        actor = min(ready, key=lambda actor: len(actor.tasks))
        alone = any(each.goes_alone for each in (task, *actor.tasks))
        return actor if len(actor.tasks) < (1 if alone else self.calls_at_once + self.calls_beside) else None
