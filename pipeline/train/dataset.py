"""From stored samples to batches: the reader's contract, clip choice, collation.

This module needs torch: import it inside the function that uses it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.train.prompt import IGNORE, ChatMl, Talk, clip_labels
from schemas.arrays import ClipTimes, EncoderProvenance
from schemas.ledger import ShardSample
from schemas.sample import Category, Modality


class StoredSample(Protocol):
    """One sample as the shards hold it."""

    @property
    def sample(self) -> ShardSample:
        """Its JSON member."""

    @property
    def features(self) -> Mapping[str, NDArray[np.float16]]:
        """`[clips, t, h, w, D]` for each encoder asked for."""

    @property
    def frames(self) -> Mapping[str, NDArray[np.uint8]]:
        """`[clips, T, S, S, 3]` for each encoder, or `[0, ...]` where the shards carry no frames."""


class Reader(Protocol):
    """Random access to one split of a mixture (`pipeline.shards.reader.ShardReader` is one)."""

    @property
    def encoders(self) -> tuple[EncoderProvenance, ...]:
        """Those of the mixture, in concatenation order."""

    def __len__(self) -> int:
        """Samples of the split."""

    def positions(self, modalities: Sequence[Modality], categories: Sequence[Category]) -> list[int]:
        """Positions of the samples that fit; no categories means all."""

    def read(self, position: int, encoders: Sequence[str], frames: bool = False) -> StoredSample:
        """One sample with these encoders' features, and frames where asked."""


@dataclass(frozen=True)
class Item:
    """One sample ready to be batched."""

    talk: Talk
    arrays: tuple[NDArray[Any], ...]
    """One an encoder, in order: `[clips, t, h, w, D] float16` features or `[clips, T, S, S, 3] uint8` frames."""


@dataclass(frozen=True)
class Batch:
    """Items side by side, padded on the right.

    B samples, L tokens of the longest; `clips` counts over the whole batch, in order of appearance.
    """

    ids: Tensor
    """`[B, L] int64`."""
    labels: Tensor
    """`[B, L] int64`."""
    weights: Tensor
    """`[B, L] float32`, as in `Talk`."""
    mask: Tensor
    """`[B, L] bool`, False where padded."""
    rounds: Tensor
    """`[B, L] int64`, as in `Talk`."""
    arrays: tuple[Tensor, ...]
    """One an encoder: `[clips, t, h, w, D] float32` or `[clips, T, S, S, 3] uint8`."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        return Batch(
            ids=self.ids.to(device),
            labels=self.labels.to(device),
            weights=self.weights.to(device),
            mask=self.mask.to(device),
            rounds=self.rounds.to(device),
            arrays=tuple(array.to(device) for array in self.arrays),
        )


def encoders_of(reader: Reader) -> tuple[EncoderProvenance, ...]:
    """The mixture's encoders. Raises ValueError when the split holds no sample with media for them to see."""
    if not reader.positions([m for m in Modality if m is not Modality.TEXT], []):
        raise ValueError("the mixture holds no image and no video: there is nothing for a connector to learn from")
    return reader.encoders


def chosen_clips(count: int, at_most: int) -> list[int]:
    """At most `at_most` of `count` clips: the centres of equal parts, so that a long film is seen whole.

    >>> chosen_clips(10, 4)
    [1, 3, 6, 8]
    """
    if count <= at_most:
        return list(range(count))
    return [(2 * part + 1) * count // (2 * at_most) for part in range(at_most)]


def labels_of(sample: ShardSample, at_most: int) -> tuple[str, ...]:
    """The words before each clip that is shown."""
    clips: Sequence[ClipTimes] = [sample.clips[i] for i in chosen_clips(len(sample.clips), at_most)]
    return clip_labels(sample.modality, clips)


def shown(
    stored: StoredSample, encoders: Sequence[EncoderProvenance], at_most: int, frames: bool
) -> tuple[NDArray[Any], ...]:
    """The arrays of the clips that are shown, one an encoder; an image's one time step is repeated.

    Raises ValueError when frames are asked for that the shards do not carry.
    """
    count = len(stored.sample.clips)
    keep = chosen_clips(count, at_most)
    arrays: list[NDArray[Any]] = []
    for encoder in encoders:
        array: NDArray[Any] = (stored.frames if frames else stored.features)[encoder.name]
        if len(array) != count:
            raise ValueError(
                f"{stored.sample.key} has {count} clips but {len(array)} of {encoder.name} are stored: "
                f"to train the encoders, name category {stored.sample.category} in shards.frames_for"
            )
        array = array[keep]
        if not frames and array.shape[1] == 1:
            array = np.repeat(array, encoder.grid[0], axis=1)
        arrays.append(array)
    return tuple(arrays)


def collate(items: Sequence[Item], chat: ChatMl) -> Batch:
    """Items as one batch on the CPU; an encoder's arrays must agree in all axes but the first."""
    length = max(len(item.talk) for item in items)
    ids = torch.full((len(items), length), chat.pad)
    labels = torch.full((len(items), length), IGNORE)
    weights = torch.zeros((len(items), length))
    mask = torch.zeros((len(items), length), dtype=torch.bool)
    rounds = torch.zeros((len(items), length), dtype=torch.long)
    for row, item in enumerate(items):
        ids[row, : len(item.talk)] = torch.tensor(item.talk.ids)
        labels[row, : len(item.talk)] = torch.tensor(item.talk.labels)
        weights[row, : len(item.talk)] = torch.tensor(item.talk.weights)
        mask[row, : len(item.talk)] = True
        rounds[row, : len(item.talk)] = torch.tensor(item.talk.rounds)
    seen = [item.arrays for item in items if item.arrays and len(item.arrays[0])]
    columns = [np.concatenate(column) for column in zip(*seen, strict=True)]
    arrays = (torch.from_numpy(c) if c.dtype == np.uint8 else torch.from_numpy(c).float() for c in columns)
    return Batch(ids, labels, weights, mask, rounds, tuple(arrays))
