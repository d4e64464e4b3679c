"""The contract of a per-record stage.

    class Upper(Stage[Sample, Sample]):
        name, version = "upper", 1
        def process(self, batch): return [shout(sample) for sample in batch]

A stage object is built with its config alone and is picklable then; it may travel to a worker
before `setup` loads anything heavy. `process` answers each input once, in the input's order, with
an output of the same key or with a `Rejection`. What it raises is a bug and stops the run.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from schemas.rejection import Rejection


class Keyed(Protocol):
    """Anything that flows: it knows its key."""

    @property
    def key(self) -> str:
        """The sample's key."""


In = TypeVar("In", bound=Keyed)
Out = TypeVar("Out", bound=Keyed)


class Stage(ABC, Generic[In, Out]):
    """One step that treats records one by one."""

    name: ClassVar[str]
    """As in the picture; rejections carry it."""
    version: ClassVar[int]
    """Part of the fingerprint: raise it when the same input would give another output."""
    wants_gpu: ClassVar[bool] = False
    """Whether its workers share the GPUs of a cluster that has any."""
    gpus: int = 0
    """Whole GPUs of one node that each of its workers has for itself; a cluster without GPUs gives none."""
    calls_at_once: int = 1
    """Calls of `process` that a worker makes side by side, each in a thread of its own.

    More than one keeps an engine full that batches by itself: no call waits for the slowest record of another.
    Such a stage is safe for threads, and its `close` may come while calls are at work, which then end soon.
    """

    def setup(self) -> None:
        """Loads what is heavy (torch, a model, a process); once a worker, before any batch."""

    @abstractmethod
    def process(self, batch: Sequence[In]) -> Sequence[Out | Rejection]:
        """One outcome an input, in the same order, under the same key."""

    def close(self) -> None:
        """Frees what `setup` took; always called, also after an error."""


def calls_at_once(stages: Sequence[Stage[Any, Any]]) -> int:
    """Batches that a chain takes side by side: as many as each of its stages allows."""
    return min((stage.calls_at_once for stage in stages), default=1)


class ContractError(RuntimeError):
    """A stage broke the contract: a bug, never data."""


class BudgetError(RuntimeError):
    """A stage refused a larger share of its inputs than the recipe allows."""


def run_chain(stages: Sequence[Stage[Any, Any]], batch: Sequence[Keyed]) -> list[Keyed]:
    """Sends `batch` through `stages`; a rejected record skips the stages behind the one that refused it.

    Returns one outcome an input, in order. Raises ContractError when a key is lost, doubled or renamed.
    """
    outcomes: list[Keyed] = list(batch)
    for stage in stages:
        alive = [outcome for outcome in outcomes if not isinstance(outcome, Rejection)]
        answers = list(stage.process(alive)) if alive else []
        asked, answered = [record.key for record in alive], [record.key for record in answers]
        if asked != answered:
            raise ContractError(f"stage {stage.name!r} answered keys {answered} to {asked}")
        replies = iter(answers)
        outcomes = [o if isinstance(o, Rejection) else next(replies) for o in outcomes]
    return outcomes
