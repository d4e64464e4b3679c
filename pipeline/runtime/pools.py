"""The Ray runner's books: what waits for which actors, and what each of them has to do."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.runtime.contract import Keyed, Stage
from pipeline.runtime.local import Done, Job
from pipeline.runtime.rows import read_row, write_rows
from pipeline.storage.files import scratch_path
from pipeline.storage.places import Place
from schemas.rejection import Rejection


def longest_first(jobs: Iterable[Job]) -> list[Job]:
    """The order in which a pool begins jobs: by cost, greatest first; equal ones as they come.

    Whoever is free takes the next, so all are at work until the last job has begun: the end that some wait for
    another is no longer than one job, and as a rule one of the cheapest.
    """
    return sorted(jobs, key=lambda job: -job.cost)


@dataclass
class Split:
    """A job whose records go through the pools one by one, because together they ended their workers."""

    job: Job
    outcomes: dict[str, Place | Rejection] = field(default_factory=dict)

    def add(self, key: str, outcome: Place | Rejection) -> Iterator[Done]:
        """The job, done, with the last of its records' outcomes: a file of one row, or a rejection."""
        self.outcomes[key] = outcome
        if len(self.outcomes) < len(self.job.inputs):
            return
        found = [self.outcomes[key] for key in self.job.keys]
        attempt = self.job.attempt_path()
        write_rows(attempt, [o if isinstance(o, Rejection) else read_row(o, 0) for o in found])
        for path in found:
            if not isinstance(path, Rejection):
                path.unlink()
        yield Done(self.job, attempt)


@dataclass(eq=False)
class Task:
    """Records on their way through the pools: a job's, or one of them."""

    job: Job
    batch: tuple[Keyed, ...]
    payload: Any
    """The batch, or a reference to the outcomes of the stage before."""
    part_of: Split | None = None
    tries: int = 0
    size_bytes: int = 0
    """What the payload takes of the object store."""

    def attempt_path(self) -> Place:
        """Where its outcomes are written: of a part of a job so that they can be read before they are committed."""
        return scratch_path(self.job.path) if self.part_of else self.job.attempt_path()

    @property
    def goes_alone(self) -> bool:
        """Whether it ended a worker, perhaps."""
        return self.tries > 0 or self.part_of is not None


@dataclass(eq=False)
class Actor:
    """An actor and what it has to do."""

    handle: Any
    tasks: list[Task] = field(default_factory=list)


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
    """Of one actor."""
    largest_bytes: int = 0
    """The largest batch that came out so far."""
    actors: list[Actor] = field(default_factory=list)
    queue: deque[Task] = field(default_factory=deque)

    @property
    def waiting_bytes(self) -> int:
        """Held by the batches in the queue."""
        return sum(task.size_bytes for task in self.queue)

    def free_for(self, task: Task) -> Actor | None:
        """The actor with the least to do, if it can take the task now."""
        actor = min(self.actors, key=lambda actor: len(actor.tasks))
        alone = any(each.goes_alone for each in (task, *actor.tasks))
        return actor if len(actor.tasks) < (1 if alone else self.calls_at_once) else None
