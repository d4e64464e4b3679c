"""The Ray runner: a pool of actors for each stage; batches pass from pool to pool through the object store.

    driver ---batch---> [stage 0 actors] ---ref---> [stage 1 actors] ---> attempt file ---> driver commits

Outcomes equal the local runner's, because a stage's answer depends on its batch alone. A dead or
hung actor is replaced while the others work, and its batch redone once from the start; if that ends a worker
again, the batch goes through the pools in halves, and the record that kills its worker each time is poison: a
Rejection. An actor that counts as dead may write on for a while, to a file of its own attempt only.

An actor takes as many batches at once as its stage allows, and of the last stage one more while it writes one.
What is redone has its actor to itself, so that nobody is blamed for a neighbour.
"""

import logging
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, cast

import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from pipeline.runtime.contract import Keyed, Stage, calls_at_once, run_chain
from pipeline.runtime.local import Done, Job, set_up
from pipeline.runtime.pools import TRIES, Actor, Call, Pool, Split, Task, longest_first
from pipeline.runtime.resources import Crew, check_gpus, crew_of
from pipeline.runtime.rows import write_rows
from pipeline.storage.files import disk_refusal
from pipeline.storage.places import Place
from schemas.base import InputError
from schemas.rejection import Reason, Rejection

LOST = (RayActorError, OutOfMemoryError, ObjectLostError)
"""A worker, or what it had made, is gone: the work is done again. All else is a bug."""

STORE_SHARE = 0.5
"""Of the object store, what batches that wait between stages may fill: the rest holds those in work."""

CALLS_BESIDE = 1
"""Of an actor that writes what it made: while one batch is written, and told, it works on the next."""

CLOSE_DEADLINE_S = 60.0
"""For the stages of all actors together; then the actors are killed."""

SETUP_DEADLINE_S = 900.0
"""Loading a 1B encoder from a network disk takes minutes; an impossible resource request waits for ever."""


class _Worker:
    """Runs a chain of stages in an actor. Outcomes stay in the object store unless they are to be written."""

    def __init__(self, stages: Sequence[Stage[Any, Any]]) -> None:
        self._stages = stages
        self._stack = ExitStack()
        self._turns = threading.Semaphore(calls_at_once(stages))

    def set_up(self) -> None:
        """Once, before any batch; not when the actor is born, so that what a stage raises arrives as it is."""
        set_up(self._stages, self._stack)

    def process(self, batch: Sequence[Keyed], attempt: Place | None) -> tuple[int | Place, list[Keyed]]:
        """(bytes, outcomes), or (`attempt`, []) once they are written there: in an object store it knows only then
        what was uploaded. Two returns for `num_returns=2`.
        """
        with self._turns:
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
        nodes = _gpus_of_nodes()
        crews = [crew_of(stage, nodes, self._workers, self._gpu_workers, len(todo)) for stage in stages]
        check_gpus(crews, nodes)
        run = _Run(stages, crews, self._call_deadline_s)
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

    def __init__(self, stages: Sequence[Stage[Any, Any]], crews: Sequence[Crew], call_deadline_s: float) -> None:
        self._stages = tuple(stages)
        self._deadline_s = call_deadline_s
        self._pools = [
            Pool((stage,), crew.workers, crew.options, calls_at_once([stage]))
            for stage, crew in zip(stages, crews, strict=True)
        ]
        self._pools[-1].calls_beside = CALLS_BESIDE
        self._calls: dict[Any, Call] = {}
        self._loading: dict[Any, Actor] = {}
        for pool in self._pools:
            for _ in range(pool.workers):
                self._spawn(pool)
        store: Any = ray.cluster_resources
        self._bound_bytes = STORE_SHARE * store()["object_store_memory"] / len(self._pools)

    def drive(self, jobs: Sequence[Job]) -> Iterator[Done]:
        waiting = deque(jobs)
        left = len(jobs)
        while left:
            while waiting and len(self._pools[0].queue) < 2 * self._pools[0].places:
                job = waiting.popleft()
                batch = job.batch
                self._pools[0].queue.append(Task(job, batch, batch))
            self._dispatch()
            for done in self._collect():
                left -= 1
                yield done

    def close(self) -> None:
        pools = [(pool, actor) for pool in self._pools for actor in pool.actors]
        # A stage that takes several calls is closed beside them; of any other, close would wait for its call.
        able = [a for pool, a in pools if not a.loads_until and (pool.calls_at_once > 1 or not a.tasks)]
        closing = [actor.handle.close.remote() for actor in able]
        ray.wait(closing, num_returns=len(closing), timeout=CLOSE_DEADLINE_S) if closing else None
        for _, actor in pools:
            ray.kill(actor.handle)

    def _dispatch(self) -> None:
        for stage in reversed(range(len(self._pools))):  # the last stage first: it frees memory
            pool, last = self._pools[stage], stage == len(self._pools) - 1
            while pool.queue and (actor := pool.free_for(pool.queue[0])) and (last or self._has_room(stage + 1)):
                task = pool.queue.popleft()
                attempt = task.attempt_path() if last else None
                status, payload = actor.handle.process.options(num_returns=2).remote(task.payload, attempt)
                actor.tasks.append(task)
                deadline = time.monotonic() + pool.deadline_s(actor, self._deadline_s)
                self._calls[status] = Call(task, stage, actor, payload, deadline)

    def _has_room(self, stage: int) -> bool:
        """Back-pressure: whether one more batch may be made for `stage`, with those that are being made."""
        pool, before = self._pools[stage], self._pools[stage - 1]
        coming = sum(call.stage == stage - 1 for call in self._calls.values())
        if len(pool.queue) + coming >= 2 * pool.places + before.places:
            return False
        expected_bytes = pool.waiting_bytes + (coming + 1) * before.largest_bytes
        return expected_bytes <= self._bound_bytes or not (pool.queue or coming)

    def _collect(self) -> Iterator[Done]:
        ready, _ = ray.wait([*self._calls, *self._loading], num_returns=1, timeout=1.0)
        now = time.monotonic()
        self._welcome(ready, now)
        late = [status for status, call in self._calls.items() if call.deadline < now and status not in ready]
        for status in [each for each in (*ready, *late) if each in self._calls]:
            call = self._calls.pop(status)
            result = self._result(status)
            call.actor.tasks.remove(call.task)
            if result is not None:
                yield from self._forward(call, result)
            else:
                yield from self._redo(call)

    def _welcome(self, ready: Sequence[Any], now: float) -> None:
        """From now on those that are set up get work. Raises what a `setup` raised."""
        for status in [status for status in ready if status in self._loading]:
            self._loading.pop(status).loads_until = 0.0
            _check_setup(status)
        if any(actor.loads_until < now for actor in self._loading.values()):
            raise TimeoutError(
                f"no worker was set up within {SETUP_DEADLINE_S:.0f} s: "
                "does the cluster have the CPUs and GPUs for it?"
            )

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
            yield from split.add(call.task.batch, result) if split else (Done(call.task.job, result),)
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
            self._spawn(pool)
        if again := task.after_loss():
            self._pools[0].queue.extendleft(reversed(again))
        else:
            yield from (task.part_of or Split(task.job)).add(task.batch, self._poison(task.batch[0]))

    def _spawn(self, pool: Pool) -> None:
        """A new actor of the pool, which takes no task until it is set up."""
        # A dead actor is ours to replace: Ray's own restarts would hide which batch killed it.
        remote: Any = ray.remote
        room_to_close = pool.calls_at_once > 1
        at_once = pool.calls_at_once + pool.calls_beside + room_to_close
        options = {"max_restarts": 0, "max_concurrency": at_once, **pool.options}
        handle = remote(**options)(_Worker).remote(pool.stages)
        pool.actors.append(Actor(handle, loads_until=time.monotonic() + SETUP_DEADLINE_S))
        self._loading[handle.set_up.remote()] = pool.actors[-1]

    def _poison(self, record: Keyed) -> Rejection:
        chain = " -> ".join(stage.name for stage in self._stages)
        return Rejection(
            key=record.key,
            stage=self._stages[-1].name,
            reason=Reason.POISON,
            detail=f"ended its worker {TRIES} times alone in {chain}: mend its media, or drop it",
            source=getattr(record, "source", ""),
        )


def _check_setup(status: Any) -> None:
    """A `setup` that raises is a bug, not a worker that was lost."""
    try:
        ray.get(status)
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


def _gpus_of_nodes() -> list[float]:
    """GPUs of each node that lives."""
    nodes: Any = ray.nodes
    return [float(node["Resources"].get("GPU", 0)) for node in nodes() if node["Alive"]]
