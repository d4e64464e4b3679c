"""The Ray runner: a pool of actors for each stage; batches pass from pool to pool through the object store.

    driver ---batch---> [stage 0 actors] ---ref---> [stage 1 actors] ---> attempt file ---> driver commits

Outcomes equal the local runner's, because a stage's answer depends on its batch alone. A dead or
hung actor is replaced and its batch redone once from the start; if that ends a worker again, the
batch's records go through the pools one by one, and the one that kills its worker each time is poison: a
Rejection. An actor that counts as dead may write on for a while, to a file of its own attempt only.

An actor of the last stage takes a second batch while it writes the first. What is redone has its actor to
itself, so that nobody is blamed for a neighbour.
"""

import logging
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import ceil
from typing import Any, cast

import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from pipeline.runtime.contract import Keyed, Stage, run_chain
from pipeline.runtime.local import Done, Job, set_up
from pipeline.runtime.pools import Actor, Call, Pool, Split, Task, longest_first
from pipeline.runtime.rows import write_rows
from pipeline.storage.files import disk_refusal
from pipeline.storage.places import Place
from schemas.base import InputError
from schemas.rejection import Reason, Rejection

LOST = (RayActorError, OutOfMemoryError, ObjectLostError)
"""A worker, or what it had made, is gone: the work is done again. All else is a bug."""

TRIES = 2
"""Times a batch, and then each record of it alone, may end its worker."""

STORE_SHARE = 0.5
"""Of the object store, what batches that wait between stages may fill: the rest holds those in work."""

CALLS_AT_ONCE = 2
"""Of an actor that writes what it made: while one batch is written, and told, it works on the next."""

SETUP_DEADLINE_S = 900.0
"""Loading a 1B encoder from a network disk takes minutes; an impossible resource request waits for ever."""


class _Worker:
    """Runs a chain of stages in an actor. Outcomes stay in the object store unless they are to be written."""

    def __init__(self, stages: Sequence[Stage[Any, Any]]) -> None:
        self._stages = stages
        self._stack = ExitStack()
        self._turn = threading.Lock()

    def set_up(self) -> None:
        """Once, before any batch; not when the actor is born, so that what a stage raises arrives as it is."""
        set_up(self._stages, self._stack)

    def process(self, batch: Sequence[Keyed], attempt: Place | None) -> tuple[int | Place, list[Keyed]]:
        """(bytes, outcomes), or (`attempt`, []) once they are written there: in an object store it knows only then
        what was uploaded. Two returns for `num_returns=2`.
        """
        with self._turn:
            outcomes = run_chain(self._stages, batch)
        if attempt is None:
            return _size_bytes(outcomes), outcomes
        write_rows(attempt, outcomes)
        return attempt, []

    def close(self) -> None:
        """Closes the stages."""
        self._stack.close()


class RayRunner:
    """Runs jobs on actors. Use as a context manager: it starts Ray, or joins `RAY_ADDRESS`, and leaves it."""

    def __init__(self, workers: int, call_deadline_s: float = 3600.0, gpu_workers: int = 0) -> None:
        """Takes `RuntimeSpec.workers` and `gpu_workers`; a call that takes longer than its deadline has hung."""
        self._workers = workers
        self._gpu_workers = gpu_workers
        self._call_deadline_s = call_deadline_s
        self._started = False

    def __enter__(self) -> "RayRunner":
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            ray.shutdown()

    def run(self, stages: Sequence[Stage[Any, Any]], jobs: Iterable[Job]) -> Iterator[Done]:
        """See `Runner.run`; jobs come back as they end. Those that cost most begin."""
        todo = longest_first(jobs)
        if not todo:
            return
        self._start(len(stages))
        widths = [min(_width(stage, self._workers, self._gpu_workers), len(todo)) for stage in stages]
        run = _Run(stages, widths, self._call_deadline_s)
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
            here: dict[str, Any] = {
                "num_cpus": max(self._workers * (stages + 1) + self._gpu_workers, os.cpu_count() or 1)
            }
            here |= {"include_dashboard": False, "object_store_memory": 512 * 2**20}
        else:
            here = {}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
        self._started = True


class _Run:
    """One pass over the pools."""

    def __init__(self, stages: Sequence[Stage[Any, Any]], widths: Sequence[int], call_deadline_s: float) -> None:
        self._stages = tuple(stages)
        self._deadline_s = call_deadline_s
        self._pools = [Pool((s,), width, _options(s, width)) for s, width in zip(stages, widths, strict=True)]
        self._pools[-1].calls_at_once = CALLS_AT_ONCE
        self._calls: dict[Any, Call] = {}
        _check_setup([_spawn(pool) for pool in self._pools for _ in range(pool.workers)])
        store: Any = ray.cluster_resources
        self._bound_bytes = STORE_SHARE * store()["object_store_memory"] / len(self._pools)

    def drive(self, jobs: Sequence[Job]) -> Iterator[Done]:
        waiting = deque(jobs)
        left = len(jobs)
        while left:
            while waiting and len(self._pools[0].queue) < 2 * self._pools[0].workers:
                job = waiting.popleft()
                batch = job.batch
                self._pools[0].queue.append(Task(job, batch, batch))
            self._dispatch()
            for done in self._collect():
                left -= 1
                yield done

    def close(self) -> None:
        actors = [actor for pool in self._pools for actor in pool.actors]
        closing = [actor.handle.close.remote() for actor in actors if not actor.tasks]
        ray.wait(closing, num_returns=len(closing), timeout=10) if closing else None
        for actor in actors:
            ray.kill(actor.handle)

    def _dispatch(self) -> None:
        for stage in reversed(range(len(self._pools))):  # the last stage first: it frees memory
            pool, last = self._pools[stage], stage == len(self._pools) - 1
            while pool.queue and (actor := pool.free_for(pool.queue[0])) and (last or self._has_room(stage + 1)):
                task = pool.queue.popleft()
                attempt = task.attempt_path() if last else None
                status, payload = actor.handle.process.options(num_returns=2).remote(task.payload, attempt)
                actor.tasks.append(task)
                deadline = time.monotonic() + self._deadline_s * len(actor.tasks)
                self._calls[status] = Call(task, stage, actor, payload, deadline)

    def _has_room(self, stage: int) -> bool:
        """Back-pressure: whether one more batch may be made for `stage`, with those that are being made."""
        pool, before = self._pools[stage], self._pools[stage - 1]
        coming = sum(call.stage == stage - 1 for call in self._calls.values())
        if len(pool.queue) + coming >= 2 * pool.workers + before.workers:
            return False
        expected_bytes = pool.waiting_bytes + (coming + 1) * before.largest_bytes
        return expected_bytes <= self._bound_bytes or not (pool.queue or coming)

    def _collect(self) -> Iterator[Done]:
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=1.0)
        now = time.monotonic()
        late = [status for status, call in self._calls.items() if call.deadline < now and status not in ready]
        for status in [*ready, *late]:
            call = self._calls.pop(status)
            result = self._result(status)
            call.actor.tasks.remove(call.task)
            if result is not None:
                yield from self._forward(call, result)
            else:
                yield from self._redo(call)

    def _result(self, status: Any) -> int | Place | None:
        """Bytes of a call's outcomes, or the attempt that holds them; None where a worker was lost or hung.

        Raises what a stage raised.
        """
        try:
            return cast("int | Place", ray.get(status, timeout=0))
        except (*LOST, GetTimeoutError):
            return None
        except RayTaskError as error:
            # The input of a call can be lost too, and then arrives as the cause of its error.
            if isinstance(error.cause, LOST):
                return None
            raise _as_raised(error) from None

    def _forward(self, call: Call, result: int | Place) -> Iterator[Done]:
        if not isinstance(result, int):
            split = call.task.part_of
            yield from split.add(call.task.batch[0].key, result) if split else (Done(call.task.job, result),)
            return
        pool = self._pools[call.stage]
        pool.largest_bytes = max(pool.largest_bytes, result)
        call.task.payload, call.task.size_bytes = call.payload, result
        self._pools[call.stage + 1].queue.append(call.task)

    def _redo(self, call: Call) -> Iterator[Done]:
        pool, task = self._pools[call.stage], call.task
        if call.actor in pool.actors:  # and not replaced already, when it lost its other task
            ray.kill(call.actor.handle)
            pool.actors.remove(call.actor)
            _check_setup([_spawn(pool)])
        task.tries += 1
        if task.tries < TRIES:
            again = [replace(task, payload=task.batch, size_bytes=0)]
        elif task.part_of is None:
            split = Split(task.job)
            again = [Task(task.job, (record,), (record,), part_of=split) for record in task.batch]
        else:
            yield from task.part_of.add(task.batch[0].key, self._poison(task.batch[0]))
            return
        self._pools[0].queue.extendleft(reversed(again))

    def _poison(self, record: Keyed) -> Rejection:
        chain = " -> ".join(stage.name for stage in self._stages)
        return Rejection(
            key=record.key,
            stage=self._stages[-1].name,
            reason=Reason.POISON,
            detail=f"ended its worker {TRIES} times alone in {chain}: mend its media, or drop it",
            source=getattr(record, "source", ""),
        )


def _spawn(pool: Pool) -> Actor:
    """A new actor of the pool."""
    # A dead actor is ours to replace: Ray's own restarts would hide which batch killed it.
    remote: Any = ray.remote
    options = {"max_restarts": 0, "max_concurrency": pool.calls_at_once, **pool.options}
    pool.actors.append(Actor(remote(**options)(_Worker).remote(pool.stages)))
    return pool.actors[-1]


def _check_setup(actors: Sequence[Actor]) -> None:
    """Waits until the actors are set up. A `setup` that raises is a bug, not a worker that was lost."""
    try:
        ray.get([actor.handle.set_up.remote() for actor in actors], timeout=SETUP_DEADLINE_S)
    except GetTimeoutError:
        raise TimeoutError(
            f"no worker was set up within {SETUP_DEADLINE_S:.0f} s: does the cluster have the CPUs and GPUs for it?"
        ) from None
    except RayTaskError as error:
        raise _as_raised(error) from None
    except RayActorError as error:
        raise RuntimeError(f"a worker could not be set up: {error}") from error


def _as_raised(error: RayTaskError) -> Exception:
    """What ends the run: a user's mistake or a full disk as it was told, a bug with its traceback in the worker."""
    cause = error.cause
    return cause if isinstance(cause, InputError) or disk_refusal(cause) else error


def _size_bytes(outcomes: Sequence[Keyed]) -> int:
    """As Ray stores them: arrays beside the pickle, which are not copied here."""
    beside: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(outcomes, protocol=5, buffer_callback=beside.append)
    return len(pickled) + sum(buffer.raw().nbytes for buffer in beside)


def _gpus(stage: Stage[Any, Any]) -> float:
    resources: Any = ray.cluster_resources
    return float(resources().get("GPU", 0)) if stage.wants_gpu else 0.0


def _width(stage: Stage[Any, Any], workers: int, gpu_workers: int) -> int:
    """Actors of a stage."""
    gpus = _gpus(stage)
    return gpu_workers or max(1, int(gpus)) if gpus else workers


def _options(stage: Stage[Any, Any], workers: int) -> dict[str, float]:
    """What Ray reserves for an actor. A GPU's share is one over a whole number: no actor may span two."""
    gpus = _gpus(stage)
    return {"num_cpus": 1, "num_gpus": 1 / max(1, ceil(workers / gpus))} if gpus else {"num_cpus": 1}
