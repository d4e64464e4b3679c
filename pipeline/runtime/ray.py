"""The Ray runner: a pool of actors for each stage; batches pass from pool to pool through the object store.

    driver ---batch---> [stage 0 actors] ---ref---> [stage 1 actors] ---> attempt file ---> driver commits

Outcomes equal the local runner's, because a stage's answer depends on its batch alone. A dead or
hung actor is replaced and its batch redone once from the start; if that ends a worker again, the
batch's records are tried one by one, and the one that kills its worker each time is poison: a
Rejection. An actor that counts as dead may write on for a while, to a file of its own attempt only.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from pipeline.runtime.contract import Keyed, Stage, run_chain
from pipeline.runtime.files import attempt_path
from pipeline.runtime.local import Done, Job, set_up
from pipeline.runtime.rows import write_rows
from schemas.rejection import Reason, Rejection

LOST = (RayActorError, OutOfMemoryError, ObjectLostError)
"""A worker, or what it had made, is gone: the work is done again. All else is a bug."""

TRIES = 2
"""Times a batch, and then each record of it alone, may end its worker."""

SETUP_DEADLINE_S = 900.0
"""Loading a 1B encoder from a network disk takes minutes; an impossible resource request waits for ever."""


class _Worker:
    """Runs a chain of stages in an actor. Outcomes stay in the object store unless they are to be written."""

    def __init__(self, stages: Sequence[Stage[Any, Any]]) -> None:
        self._stages = stages
        self._stack = ExitStack()
        set_up(stages, self._stack)

    def ping(self) -> None:
        """Answers once `setup` is over."""

    def process(self, batch: Sequence[Keyed], attempt: str | None) -> tuple[bool, list[Keyed]]:
        """(True, outcomes), or (True, []) once they are written to `attempt`. Two returns for `num_returns=2`."""
        outcomes = run_chain(self._stages, batch)
        if attempt is None:
            return True, outcomes
        write_rows(Path(attempt), outcomes)
        return True, []

    def close(self) -> None:
        """Closes the stages."""
        self._stack.close()


@dataclass
class _Task:
    """A job on its way through the pools."""

    job: Job
    payload: Any
    """The batch, or a reference to the outcomes of the stage before."""
    tries: int = 0


@dataclass
class _Call:
    """One call in flight."""

    task: _Task
    stage: int
    actor: Any
    payload: Any
    attempt: Path | None
    deadline: float


@dataclass
class _Pool:
    """The actors of one stage."""

    stages: tuple[Stage[Any, Any], ...]
    options: dict[str, float]
    idle: list[Any] = field(default_factory=list)
    queue: deque[_Task] = field(default_factory=deque)

    def spawn(self) -> Any:
        """A new actor; its setup runs while others work."""
        # A dead actor is ours to replace: Ray's own restarts would hide which batch killed it.
        remote: Any = ray.remote
        return remote(max_restarts=0, **self.options)(_Worker).remote(self.stages)


class RayRunner:
    """Runs jobs on actors. Use as a context manager: it starts Ray, or joins `RAY_ADDRESS`, and leaves it."""

    def __init__(self, workers: int, call_deadline_s: float = 3600.0) -> None:
        self._workers = workers
        self._call_deadline_s = call_deadline_s
        self._started = False

    def __enter__(self) -> "RayRunner":
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            ray.shutdown()

    def run(self, stages: Sequence[Stage[Any, Any]], jobs: Iterable[Job]) -> Iterator[Done]:
        """See `Runner.run`; jobs come back as they end."""
        todo = list(jobs)
        if not todo:
            return
        self._start(len(stages))
        run = _Run(stages, min(self._workers, len(todo)), self._call_deadline_s)
        try:
            yield from run.drive(todo)
        finally:
            run.close()

    def _start(self, stages: int) -> None:
        if ray.is_initialized():
            return
        # Library calls never phone home, and the token file of newer Rays is for clusters, not for us.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = os.environ.get("RAY_ADDRESS", "local")
        if address == "local":
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
            # Logical CPUs: every stage has its own actors, and the operating system shares the cores.
            here: dict[str, Any] = {"num_cpus": max(self._workers * (stages + 1), os.cpu_count() or 1)}
            here |= {"include_dashboard": False, "object_store_memory": 512 * 2**20}
        else:
            here = {}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
        self._started = True


class _Run:
    """One pass over the pools."""

    def __init__(self, stages: Sequence[Stage[Any, Any]], workers: int, call_deadline_s: float) -> None:
        self._stages = tuple(stages)
        self._deadline_s = call_deadline_s
        self._pools = [_Pool((stage,), _options(stage, workers)) for stage in stages]
        self._calls: dict[Any, _Call] = {}
        for pool in self._pools:
            pool.idle = [pool.spawn() for _ in range(workers)]
        _check_setup([actor for pool in self._pools for actor in pool.idle])
        self._bound = 2 * workers
        """Batches that may wait between two stages: back-pressure on the one before."""

    def drive(self, jobs: Sequence[Job]) -> Iterator[Done]:
        waiting = deque(_Task(job, job.batch) for job in jobs)
        left = len(jobs)
        while left:
            while waiting and len(self._pools[0].queue) < self._bound:
                self._pools[0].queue.append(waiting.popleft())
            self._dispatch()
            for done in self._collect():
                left -= 1
                yield done

    def close(self) -> None:
        actors = [actor for pool in self._pools for actor in pool.idle]
        closing = [actor.close.remote() for actor in actors]
        ray.wait(closing, num_returns=len(closing), timeout=10) if closing else None
        for actor in actors + [call.actor for call in self._calls.values()]:
            ray.kill(actor)

    def _dispatch(self) -> None:
        for stage in reversed(range(len(self._pools))):  # the last stage first: it frees memory
            pool, last = self._pools[stage], stage == len(self._pools) - 1
            while pool.idle and pool.queue and (last or len(self._pools[stage + 1].queue) < self._bound):
                task, actor = pool.queue.popleft(), pool.idle.pop()
                attempt = attempt_path(task.job.path) if last else None
                status, payload = actor.process.options(num_returns=2).remote(
                    task.payload, None if attempt is None else str(attempt)
                )
                deadline = time.monotonic() + self._deadline_s
                self._calls[status] = _Call(task, stage, actor, payload, attempt, deadline)

    def _collect(self) -> Iterator[Done]:
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=1.0)
        now = time.monotonic()
        late = [status for status, call in self._calls.items() if call.deadline < now and status not in ready]
        for status in [*ready, *late]:
            call = self._calls.pop(status)
            if self._ended_well(status):
                self._pools[call.stage].idle.append(call.actor)
                yield from self._forward(call)
            else:
                yield from self._redo(call)

    def _ended_well(self, status: Any) -> bool:
        """False where a worker was lost or hung; raises what a stage raised."""
        try:
            ray.get(status, timeout=0)
        except (*LOST, GetTimeoutError):
            return False
        except RayTaskError as error:
            # The input of a call can be lost too, and then arrives as the cause of its error.
            if isinstance(error.cause, LOST):
                return False
            raise
        return True

    def _forward(self, call: _Call) -> Iterator[Done]:
        if call.attempt is not None:
            yield Done(call.task.job, call.attempt)
            return
        call.task.payload = call.payload
        self._pools[call.stage + 1].queue.append(call.task)

    def _redo(self, call: _Call) -> Iterator[Done]:
        pool, task = self._pools[call.stage], call.task
        ray.kill(call.actor)
        pool.idle.append(pool.spawn())
        _check_setup(pool.idle[-1:])
        task.tries += 1
        if task.tries < TRIES:
            task.payload = task.job.batch
            self._pools[0].queue.appendleft(task)
            return
        attempt = attempt_path(task.job.path)
        write_rows(attempt, [self._alone(record) for record in task.job.batch])
        yield Done(task.job, attempt)

    def _alone(self, record: Keyed) -> Keyed:
        """The outcome of one record by a fresh worker of its own, or its rejection as poison."""
        pool = _Pool(self._stages, _options(self._stages[-1], 1))
        for _ in range(TRIES):
            actor = pool.spawn()
            _check_setup([actor])
            try:
                _, outcomes = ray.get(actor.process.remote([record], None), timeout=self._deadline_s)
            except (*LOST, GetTimeoutError):
                continue
            finally:
                ray.kill(actor)
            return outcomes[0]  # type: ignore[no-any-return]
        chain = " -> ".join(stage.name for stage in self._stages)
        return Rejection(
            key=record.key,
            stage=self._stages[-1].name,
            reason=Reason.POISON,
            detail=f"ended its worker {TRIES} times alone in {chain}: mend its media, or drop it",
            source=getattr(record, "source", ""),
        )


def _check_setup(actors: Sequence[Any]) -> None:
    """Waits until the actors are set up. A `setup` that raises is a bug, not a worker that was lost."""
    try:
        ray.get([actor.ping.remote() for actor in actors], timeout=SETUP_DEADLINE_S)
    except GetTimeoutError:
        raise TimeoutError(
            f"no worker was set up within {SETUP_DEADLINE_S:.0f} s: does the cluster have the CPUs and GPUs for it?"
        ) from None
    except RayActorError as error:
        raise RuntimeError(f"a worker could not be set up: {error}") from error


def _options(stage: Stage[Any, Any], workers: int) -> dict[str, float]:
    resources: Any = ray.cluster_resources
    gpus = resources().get("GPU", 0.0) if stage.wants_gpu else 0.0
    return {"num_cpus": 1, "num_gpus": min(1.0, gpus / workers)} if gpus else {"num_cpus": 1}
