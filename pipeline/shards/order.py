"""The order in which a training run meets a split: a pure function of seed, epoch and place.

The pattern of modalities is the stored one: at place p of every epoch stands a sample of the modality that
stored sample p has. Only which sample of its modality it is changes. So all that the stored order holds of its
prefixes (`pipeline.plan.order`) holds of each prefix, and each batch, of each epoch.

The shards come up in a random order, cut into windows of `shuffle_shards`; in a window the samples of a modality
are shuffled. So few tars are in use at a time. Nothing has a state: any place of any epoch costs the same.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.shards.recent import Recent

Positions = NDArray[np.int64]
"""Positions in the stored order of the split."""
Balance = Literal["modality", "none"]

BLOCK = 4096
"""Places that are looked up at once."""
_SHARDS, _SAMPLES = 0, 1
"""What is drawn; the second word of the generator's key."""


@dataclass(frozen=True)
class OrderSpec:
    """What decides an order besides the mixture. Raises ValueError for settings that decide none."""

    seed: int = 0
    """0 to 2**64 - 1."""
    shuffle: bool = True
    """False gives the stored order in every epoch."""
    shuffle_shards: int = 16
    """Shards in a window: more mixes better, and has more tars in use at a time."""
    balance: Balance = "modality"
    """With `none` a window's samples are shuffled freely, and the shares of a batch are left to chance."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"{self.seed = }: give one of 0 to 2**64 - 1")
        if self.shuffle_shards < 1:
            raise ValueError(f"{self.shuffle_shards = }: give at least 1")
        if self.balance not in ("modality", "none"):
            raise ValueError(f"{self.balance = }: give modality or none")


@dataclass(frozen=True)
class _Kind:
    """The samples of one modality."""

    members: NDArray[np.int32]
    """Places in the stored order, ascending."""
    edges: NDArray[np.int64]
    """[shards + 1]: how many of them lie before each shard, and in all."""


@dataclass(frozen=True)
class _Epoch:
    """The windows of one epoch."""

    shards: NDArray[np.int64]
    """[shards] in the order of the epoch."""
    starts: list[NDArray[np.int64]]
    """By kind, [windows + 1]: how many of its samples come before each window, and in all."""


class Order:
    """The order of one split, or of chosen samples of it.

    Holds 9 bytes a sample, 17 where samples were chosen. For one thread; picklable.
    """

    def __init__(
        self,
        spec: OrderSpec,
        shard_samples: NDArray[np.int64],
        modalities: NDArray[np.uint8],
        chosen: Positions | None = None,
    ) -> None:
        """Of the samples at positions `chosen`, ascending; all of them where it is None.

        Args:
            spec: What decides it.
            shard_samples: [shards] samples in each shard, in stored order.
            modalities: [samples] a code each, which must mean the same in every run: it salts the draws.
            chosen: [places] positions.
        """
        self._spec, self._chosen = spec, chosen
        bounds = np.concatenate(([0], np.cumsum(shard_samples)))
        if bounds[-1] != len(modalities):
            raise ValueError(f"shards of {bounds[-1]} samples, but {len(modalities)} modalities")
        if chosen is not None:
            bounds, modalities = np.searchsorted(chosen, bounds), modalities[chosen]
        self._bounds = bounds
        self._codes = modalities if spec.balance == "modality" else np.zeros(len(modalities), np.uint8)
        self._ranks = np.empty(len(modalities), np.int32)
        """[places]: how many of its kind come before."""
        self._kinds: dict[int, _Kind] = {}
        for code in np.flatnonzero(np.bincount(self._codes)).tolist():
            members = np.flatnonzero(self._codes == code).astype(np.int32)
            self._ranks[members] = np.arange(len(members), dtype=np.int32)
            self._kinds[code] = _Kind(members, np.searchsorted(members, bounds))
        self._epochs: Recent[int, _Epoch] = Recent(2)
        self._windows: Recent[tuple[int, int, int], NDArray[np.int32]] = Recent(4 * max(1, len(self._kinds)))
        self._blocks: Recent[tuple[int, int], Positions] = Recent(4)

    def __len__(self) -> int:
        """Samples of an epoch."""
        return len(self._ranks)

    def positions(self, epoch: int, start: int, stop: int) -> Positions:
        """Whose turn it is at places start to stop of an epoch, 0 <= start <= stop <= len."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"places {start} to {stop} of an epoch of {len(self)} samples")
        if start == stop:
            return np.empty(0, np.int64)
        first, last = start // BLOCK, (stop - 1) // BLOCK
        blocks = [self._blocks.get((epoch, block), self._block) for block in range(first, last + 1)]
        whole = blocks[0] if first == last else np.concatenate(blocks)
        return whole[start - first * BLOCK : stop - first * BLOCK]

    def _block(self, key: tuple[int, int]) -> Positions:
        epoch, block = key
        places = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self)))
        turns = self._shuffled(epoch, places) if self._spec.shuffle else places
        found = turns if self._chosen is None else self._chosen[turns]
        found.flags.writeable = False
        return found

    def _shuffled(self, epoch: int, places: Positions) -> Positions:
        found = np.empty(len(places), np.int64)
        codes, ranks = self._codes[places], self._ranks[places]
        for number, code in enumerate(self._kinds):
            starts = self._epochs.get(epoch, self._epoch).starts[number]
            (of_kind,) = np.nonzero(codes == code)
            windows = np.searchsorted(starts, ranks[of_kind], "right") - 1
            for window in np.unique(windows).tolist():
                there = of_kind[windows == window]
                found[there] = self._windows.get((epoch, window, code), self._window)[ranks[there] - starts[window]]
        return found

    def _epoch(self, epoch: int) -> _Epoch:
        shards = np.argsort(self._draws(len(self._bounds) - 1, _SHARDS, epoch), kind="stable")
        firsts = np.arange(0, len(shards), self._spec.shuffle_shards)
        counts = [np.add.reduceat(np.diff(kind.edges)[shards], firsts) for kind in self._kinds.values()]
        return _Epoch(shards, [np.concatenate(([0], np.cumsum(count))) for count in counts])

    def _window(self, key: tuple[int, int, int]) -> NDArray[np.int32]:
        """The samples of one kind in one window, shuffled."""
        epoch, window, code = key
        kind, size = self._kinds[code], self._spec.shuffle_shards
        shards = self._epochs.get(epoch, self._epoch).shards[window * size : (window + 1) * size]
        members = np.concatenate([kind.members[kind.edges[shard] : kind.edges[shard + 1]] for shard in shards])
        return members[np.argsort(self._draws(len(members), _SAMPLES, epoch, window, code), kind="stable")]

    def _draws(self, count: int, what: int, epoch: int, window: int = 0, code: int = 0) -> NDArray[np.uint64]:
        """Random words to sort by. NumPy promises that those of a bit generator stay; a shuffle's it does not."""
        # The lowest word of the counter is the generator's own.
        key, counter = np.array([self._spec.seed, what], np.uint64), np.array([0, code, window, epoch], np.uint64)
        bits = np.random.Philox(key=key, counter=counter)
        return np.asarray(bits.random_raw(count), np.uint64)
