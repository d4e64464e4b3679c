"""Training batches straight from the shards: in an order of their own, from any place, at the speed of the disk.

    stream = MixtureStream(folder, "train", ["siglip", "internvideo2"], global_batch=256, rank=0, world_size=8)
    for batch in stream:                  # this rank's part of each global batch
        train(batch.samples)
        state = stream.state_dict()       # small, the same on every rank; all before it is done, nothing else

The order is that of `pipeline.shards.order`, and the same for every number of ranks and workers. A state counts
samples, so it goes on with other numbers of both, and with another global batch.

A sample that cannot be read is an error. Under `on_broken="skip"` its batch is shorter by it, on its rank alone:
to put another in its place, ranks would have to tell each other, and every later batch would hang on the fault.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np

from pipeline.shards.batches import Batching, Cursor, EpochEnd, GlobalBatch
from pipeline.shards.joined import JoinedIndex
from pipeline.shards.lookup import ShardError
from pipeline.shards.order import Balance, Order, OrderSpec
from pipeline.shards.payloads import Payloads, Tars
from pipeline.shards.prefetch import Task, in_order
from pipeline.shards.runs import RUN_BYTES, Run
from pipeline.shards.streamed import Located, Skipped, StreamSample, Wanted
from pipeline.storage.places import Place, S3Path
from schemas.base import InputError
from schemas.sample import Category, Modality

STATE_VERSION = 1
OPEN_TARS = 128
"""Kept open, in each process."""
AHEAD_BYTES = 256 * 2**20
"""Read ahead from a store where nothing else is said."""

State = dict[str, Any]
"""JSON: what names the order, and how far a run has come in it."""
_Found = list[list[Payloads] | ShardError]


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """A rank's part of one global batch."""

    samples: list[StreamSample]
    state: State
    """Of a run that has this batch behind it."""
    skipped: list[Skipped]
    """Samples that would be here."""


class MixtureStream:
    """Batches of one split of the mixture in `folder`, for one rank. Iterating goes on where it stopped.

    Picklable, and for one thread. Raises ShardError when the folder holds no mixture or no sample of the split;
    ValueError for settings that make no sense, or an encoder that the mixture has not.
    """

    def __init__(
        self,
        folder: Place,
        split: str,
        encoders: Sequence[str],
        *,
        global_batch: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        shuffle_shards: int = 16,
        balance: Balance = "modality",
        modalities: Sequence[Modality] = (),
        categories: Sequence[Category] = (),
        epochs: int | None = None,
        epoch_end: EpochEnd = "join",
        frames: bool = False,
        on_broken: Literal["raise", "skip"] = "raise",
        prefetch_bytes: int | None = None,
    ) -> None:
        """A stream at its start.

        Args:
            folder: Of the finished mixture.
            split: `train` or `heldout`.
            encoders: Those whose features are wanted; the bytes of others are not read.
            global_batch: Samples of a batch of all ranks together.
            rank: This one's, 0 <= rank < world_size.
            world_size: Ranks.
            seed: As in OrderSpec, with the next three.
            shuffle: False gives the stored order.
            shuffle_shards: Shards that are mixed with each other.
            balance: What every batch holds its share of.
            modalities: Of the samples wanted; none named means all.
            categories: Likewise.
            epochs: How many; endless where None.
            epoch_end: As in Batching.
            frames: Whether the encoders' frames are wanted.
            on_broken: Whether a sample that cannot be read ends the run, or is left out and counted.
            prefetch_bytes: Bytes, at most, that are read ahead of the batch that is being made, by threads; 0 reads
                when asked. None is 256 MiB from a store, and 0 from a disk, where the kernel reads ahead.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"{rank = } of {world_size = }: give 0 <= rank < world_size")
        if on_broken not in ("raise", "skip"):
            raise ValueError(f"{on_broken = }: give raise or skip")
        self._rank, self._world_size = rank, world_size
        self._on_broken = on_broken
        in_store = AHEAD_BYTES if isinstance(folder, S3Path) else 0
        ahead = in_store if prefetch_bytes is None else prefetch_bytes
        self._run_bytes = min(RUN_BYTES, ahead // 2)
        self._ahead = ahead - self._run_bytes  # the rest of a run waits, too, while its first samples are consumed
        spec = OrderSpec(seed, shuffle, shuffle_shards, balance)
        # Two windows are in use at a time, as modalities drift apart a little.
        self._index = JoinedIndex(folder, split, groups=2 * shuffle_shards + 2)
        self._wanted = Wanted(self._index, tuple(encoders), frames)
        self._order = _order(self._index, split, spec, modalities, categories)
        self._batching = Batching(len(self._order), global_batch, epoch_end, epochs)
        self._settings: State = {
            "version": STATE_VERSION,
            "root_sha256": self._index.ledger.root_sha256,
            "split": str(split),
            **asdict(spec),
            "modalities": sorted(map(str, modalities)),
            "categories": sorted(map(str, categories)),
        }
        self._cursor = Cursor(0, 0)
        self.skipped: list[Skipped] = []
        """What was left out of the batches that the consumer got."""
        self._wanted.located(0, Tars(folder, 1))  # an encoder that is not there is told at once

    def __len__(self) -> int:
        """Samples of an epoch."""
        return len(self._order)

    def __iter__(self) -> Iterator[StreamBatch]:
        """From where the last one stopped."""
        for batch in self.batches():
            self.delivered(batch.state, batch.skipped)
            yield batch

    def delivered(self, state: State, skipped: Sequence[Skipped]) -> None:
        """Puts a batch of this stream's, made here or by a worker, behind it."""
        self._cursor = Cursor(state["epoch"], state["position"])
        self.skipped += skipped

    def state_dict(self) -> State:
        """What `load_state_dict` takes: of the batches that the consumer got, not of what is read ahead."""
        return self._state(self._cursor)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the run of `state` was. Raises InputError for one of another mixture or order."""
        differs = [
            f"{name} is {state.get(name)!r} there and {value!r} here"
            for name, value in self._settings.items()
            if state.get(name) != value
        ]
        if differs:
            raise InputError(
                f"the reader's state is not of this mixture and order: {'; '.join(differs)}. Give the settings "
                "that the run began with, or begin anew without the state"
            )
        cursor = Cursor(state.get("epoch", -1), state.get("position", -1))
        if not all(isinstance(n, int) and n >= 0 for n in cursor) or cursor.position > len(self):
            raise InputError(f"the reader's state is at {cursor}, which an epoch of {len(self)} samples has not")
        self._cursor = cursor

    def batches(self, worker: int = 0, workers: int = 1) -> Iterator[StreamBatch]:
        """Every `workers`-th batch from the `worker`-th on, counted from where the stream stands, and stays."""
        tars = Tars(self._index.folder, OPEN_TARS)
        batch = StreamBatch([], {}, [])
        planned = islice(self._batching.batches(self._cursor), worker, None, workers)
        for tag, found in in_order(self._tasks(planned, tars), self._ahead):
            payloads = iter(found)
            for each in tag:
                if isinstance(each, Cursor):
                    yield replace(batch, state=self._state(each))
                    batch = StreamBatch([], {}, [])
                else:
                    self._add(batch, each, next(payloads))

    def _tasks(self, planned: Iterator[GlobalBatch], tars: Tars) -> Iterator[Task[list[Located | Cursor], _Found]]:
        """The samples of a run together, and the ends of batches among them."""
        run: Run | None = None
        tag: list[Located | Cursor] = []
        for each in self._row(planned, tars):
            if isinstance(each, Cursor) or (run and run.take(each, self._run_bytes)):
                tag.append(each)
                continue
            if run:
                yield Task(tag, run.size, run.read)
                tag = []
            run = Run(each)
            tag.append(each)
        yield Task(tag, run.size, run.read) if run else Task(tag, 0, list)

    def _row(self, planned: Iterator[GlobalBatch], tars: Tars) -> Iterator[Located | Cursor]:
        """The samples of each batch, then its end."""
        for batch in planned:
            for epoch, start, end in batch.of_rank(self._rank, self._world_size):
                for position in self._order.positions(epoch, start, end).tolist():
                    yield self._wanted.located(position, tars)
            yield batch.after

    def _add(self, batch: StreamBatch, located: Located, found: list[Payloads] | ShardError) -> None:
        try:
            if isinstance(found, ShardError):
                raise found
            batch.samples.append(self._wanted.sample(located, found))
        except ShardError as error:
            if self._on_broken == "raise":
                raise
            row = located.row
            batch.skipped.append(Skipped(located.position, row.shard, row.key, str(error)))

    def _state(self, cursor: Cursor) -> State:
        return {**self._settings, **cursor._asdict()}


def _order(
    index: JoinedIndex, split: str, spec: OrderSpec, modalities: Sequence[Modality], categories: Sequence[Category]
) -> Order:
    """Raises ShardError where the ledger counts other samples than the index lists."""
    shards = np.array([tar.count.samples for tar in index.ledger.shards if tar.split == split], np.int64)
    if shards.sum() != len(index):
        raise ShardError(
            f"{index.folder}: the ledger counts {shards.sum()} samples in the shards of {split}, the index "
            f"{len(index)}: build the mixture again, or restore both"
        )
    chosen = index.positions(modalities, categories) if modalities or categories else None
    return Order(spec, shards, index.samples.codes("modality", [str(m) for m in Modality]), chosen)
