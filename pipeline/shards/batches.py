"""Which places of which epochs make each global batch, and which of them are a rank's: arithmetic, no state."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

EpochEnd = Literal["join", "short", "drop"]


class Cursor(NamedTuple):
    """How far a run has come: all samples before this place are done. Of all ranks together."""

    epoch: int
    position: int
    """Samples of the epoch that are done."""


class Piece(NamedTuple):
    """Places of one epoch."""

    epoch: int
    start: int
    exclusive_end: int


class GlobalBatch(NamedTuple):
    """One step of all ranks."""

    pieces: tuple[Piece, ...]
    """In order; several where epochs join."""
    after: Cursor

    def of_rank(self, rank: int, world_size: int) -> list[Piece]:
        """A rank's own: the batch is cut into runs, in the order of ranks, of equal length or one apart."""
        size = sum(piece.exclusive_end - piece.start for piece in self.pieces)
        low, high = size * rank // world_size, size * (rank + 1) // world_size
        found, first = [], 0
        for epoch, start, end in self.pieces:
            own = Piece(epoch, max(start, start + low - first), min(end, start + high - first))
            if own.start < own.exclusive_end:
                found.append(own)
            first += end - start
        return found


@dataclass(frozen=True)
class Batching:
    """How the endless sequence of epochs is cut. Raises ValueError where no batch could be made."""

    samples: int
    """Of an epoch."""
    global_batch: int
    epoch_end: EpochEnd = "join"
    """What becomes of the last batch of an epoch, where it is not full: `join` fills it up from the next epoch,
    `short` leaves it short, `drop` leaves out its samples.
    """
    epochs: int | None = None
    """When to stop; never where None. A joined run leaves the last batch of all short."""

    def __post_init__(self) -> None:
        if self.global_batch < 1:
            raise ValueError(f"{self.global_batch = }: give at least 1")
        if self.epoch_end not in ("join", "short", "drop"):
            raise ValueError(f"{self.epoch_end = }: give join, short or drop")
        if not self.samples:
            raise ValueError("no sample of the split fits: name other modalities or categories")
        if self.epoch_end == "drop" and self.samples < self.global_batch:
            raise ValueError(
                f"a batch of {self.global_batch} is never full in an epoch of {self.samples} samples, and "
                "epoch_end=drop leaves out what is not: take a smaller batch, or join"
            )

    def batches(self, cursor: Cursor) -> Iterator[GlobalBatch]:
        """All batches from `cursor` on."""
        while (batch := self._next(cursor)) is not None:
            yield batch
            cursor = batch.after

    def _next(self, cursor: Cursor) -> GlobalBatch | None:
        epoch, start = cursor
        left = self.samples - start
        if left <= 0 or (self.epoch_end == "drop" and left < self.global_batch):
            epoch, start = epoch + 1, 0
        pieces, wanted = [], self.global_batch
        while wanted and (self.epochs is None or epoch < self.epochs):
            end = min(start + wanted, self.samples)
            pieces.append(Piece(epoch, start, end))
            wanted -= end - start
            epoch, start = (epoch + 1, 0) if end == self.samples else (epoch, end)
            if self.epoch_end != "join":
                break
        return GlobalBatch(tuple(pieces), Cursor(epoch, start)) if pieces else None
