"""The stream in torch's worker processes: same order for any number of them. Only this and `packed` import torch.

loader = MixtureLoader(stream, workers=4, collate=to_tensors)
for data in loader:                   # what `collate` made, in a worker, of a StreamBatch
    train(data)
    state = loader.state_dict()       # batches that workers have ready, and nobody got, are not in it
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pipeline.shards.packed import Packed, pack, unpack
from pipeline.shards.stream import MixtureStream, State, StreamBatch
from pipeline.shards.streamed import Skipped

T = TypeVar("T")
Delivery = tuple[T, State, list[Skipped]]
"""What `collate` made of a batch, and what the batch says of itself."""


class MixtureDataset(IterableDataset[Delivery[T]], Generic[T]):
    """The batches of a stream, for a DataLoader with `batch_size=None`, which asks its workers in turn.

    So worker w of n makes every n-th batch from the w-th on.
    """

    def __init__(self, stream: MixtureStream, collate: Callable[[StreamBatch], T]) -> None:
        self._stream, self._collate = stream, collate

    def __iter__(self) -> Iterator[Delivery[T]]:
        worker = get_worker_info()
        numbers = (worker.id, worker.num_workers) if worker else (0, 1)
        for batch in self._stream.batches(*numbers):
            yield self._collate(batch), batch.state, batch.skipped


class MixtureLoader(Generic[T]):
    """Batches of a stream, made in worker processes. Iterating goes on where it stopped."""

    def __init__(
        self,
        stream: MixtureStream,
        *,
        workers: int = 0,
        collate: Callable[[StreamBatch], T] | None = None,
        **options: Any,
    ) -> None:
        """Over `stream`, which it moves on.

        Args:
            stream: Each worker has one of its own, with its memory for reading ahead.
            workers: Processes; 0 makes batches in this one.
            collate: Runs in the worker. What it returns goes to the consumer, each tensor by shared memory of its
                own. Without it a StreamBatch comes, whose arrays lie in one piece of shared memory.
            options: Of DataLoader: `prefetch_factor`, `pin_memory`, `multiprocessing_context`, `timeout`.
        """
        self._stream, self._workers, self._options = stream, workers, options
        self._collate = cast("Callable[[StreamBatch], T]", collate or (pack if workers else _as_it_is))

    @property
    def skipped(self) -> list[Skipped]:
        """What was left out of the batches that the consumer got."""
        return self._stream.skipped

    def __iter__(self) -> Iterator[T]:
        """From where the last one stopped. Raises RuntimeError when a worker dies."""
        loader = DataLoader(
            MixtureDataset(self._stream, self._collate),
            batch_size=None,
            num_workers=self._workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else a draw is taken from the training's own
            **self._options,
        )
        for data, state, skipped in loader:
            self._stream.delivered(state, skipped)
            yield unpack(data) if isinstance(data, Packed) else data

    def state_dict(self) -> State:
        """As `MixtureStream.state_dict`."""
        return self._stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `MixtureStream.load_state_dict`; holds from the next `iter` on."""
        self._stream.load_state_dict(state)


def _as_it_is(data: T) -> T:
    return data
