"""How wide a stage's pool is, and what each of its actors reserves: pure decisions about a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from pipeline.runtime.contract import Stage
from schemas.base import InputError


@dataclass(frozen=True)
class Crew:
    """The actors of one stage."""

    workers: int
    options: dict[str, float]
    """What Ray reserves for each."""


def crew_of(stage: Stage[Any, Any], nodes: Sequence[float], workers: int, gpu_workers: int, jobs: int) -> Crew:
    """The actors of `stage` where the cluster's nodes have so many GPUs; no more than there are jobs.

    `workers` and `gpu_workers` are `RuntimeSpec`'s. Raises InputError if no node has the GPUs of one worker.
    """
    gpus = sum(nodes)
    if not gpus or not (stage.gpus or stage.wants_gpu):
        return Crew(min(workers, jobs), {"num_cpus": 1})
    if stage.gpus:
        return Crew(min(_with_whole_gpus(stage, nodes, gpu_workers), jobs), {"num_cpus": 1, "num_gpus": stage.gpus})
    sharing = min(gpu_workers or max(1, int(gpus)), jobs)
    # A GPU's share is one over a whole number: no actor may span two.
    return Crew(sharing, {"num_cpus": 1, "num_gpus": 1 / max(1, ceil(sharing / gpus))})


def _with_whole_gpus(stage: Stage[Any, Any], nodes: Sequence[float], gpu_workers: int) -> int:
    """How many workers find their GPUs. An actor's GPUs are of one node, so what two nodes have left makes none.

    One actor with `num_gpus=n` is what a STRICT_PACK placement group of n GPUs would be: the processes of its
    engine, a GPU each, are its children and see the GPUs that Ray gave it.
    """
    fitting = sum(int(gpus) // stage.gpus for gpus in nodes)
    if not fitting:
        there = ", ".join(f"{gpus:g}" for gpus in sorted(nodes, reverse=True))
        raise InputError(
            f"stage {stage.name!r} wants {stage.gpus} GPUs of one node for each worker, and the nodes of this "
            f"cluster have {there}: ask for fewer, or join a node that has them"
        )
    return min(fitting, gpu_workers) if gpu_workers else fitting


def check_gpus(crews: Sequence[Crew], nodes: Sequence[float]) -> None:
    """Raises InputError if the pools of a run want more GPUs together than there are: they would wait for ever."""
    wanted = sum(crew.workers * crew.options.get("num_gpus", 0) for crew in crews)
    if wanted > sum(nodes) + 1e-6:
        raise InputError(
            f"the stages of this run want {wanted:g} GPUs together, and the cluster has {sum(nodes):g}: "
            "lower runtime.gpu_workers, or run them one after another"
        )
