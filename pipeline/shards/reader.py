"""Random access to a finished mixture: the index says where, and one read fetches the members that lie together.

No file stays open between reads, so a reader may be pickled, forked and used from threads. For training from the
shards in an order of their own, at the speed of the disk, see `pipeline.shards.stream`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.shards.joined import JoinedIndex, arrays
from pipeline.shards.lookup import IndexRow, ShardError
from pipeline.shards.payloads import CHANGED, open_tar, payloads, where
from pipeline.storage.places import Place
from schemas.arrays import EncoderProvenance
from schemas.ledger import ShardSample
from schemas.sample import Category, Modality

__all__ = ["ShardError", "ShardReader", "StoredSample"]


@dataclass(frozen=True)
class StoredSample:
    """One sample as the shards hold it. The arrays are the caller's own and writable."""

    sample: ShardSample
    features: dict[str, NDArray[np.float16]]
    """`[clips, time, height, width, channels] float16` for each encoder asked for; int8 is restored."""
    frames: dict[str, NDArray[np.uint8]]
    """`[clips, frames, height, width, 3] uint8` for each encoder, where frames were asked for."""


class ShardReader:
    """One split of the mixture in `folder`, by position; columns are joined to their samples as they are read.

    Raises ShardError when the folder has no index or ledger, or no sample of the split.
    """

    def __init__(self, folder: Place, split: str) -> None:
        self._index = JoinedIndex(folder, split)
        self.encoders: tuple[EncoderProvenance, ...] = self._index.ledger.encoders
        """All encoders, in the order in which a connector joins them."""

    def __len__(self) -> int:
        """Samples of the split."""
        return len(self._index)

    def positions(self, modalities: Sequence[Modality] = (), categories: Sequence[Category] = ()) -> list[int]:
        """Positions, ascending, of samples of these modalities and categories; none named means all."""
        return [int(position) for position in self._index.positions(modalities, categories)]

    def position(self, key: str) -> int:
        """Where the sample of this key stands. Raises LookupError when the split has no such sample."""
        found = self._index.samples.find(key)
        if found < 0:
            raise LookupError(f"no sample {key!r} in this split of {len(self)}")
        return found

    def read(self, position: int, encoders: Sequence[str], frames: bool = False) -> StoredSample:
        """The sample at `position`, 0 <= position < len, with features (and frames) of these encoders.

        Raises IndexError for a position outside the split, ValueError for a column the shards lack
        and ShardError when the tar is missing, cut short or not the one that was indexed.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of a split of {len(self)} samples")
        row = self._index.samples.row(position)
        parts = self._index.parts(row, position, encoders, frames)
        found = [payloads(open_tar(self._index.folder, part.row), part.row, part.reads) for part in parts]
        sample = _record(row, found[0]["json"])
        of_features, of_frames = arrays(parts, found, frames, lambda: [len(clip.t_ns) for clip in sample.clips])
        return StoredSample(
            sample=sample,
            features={name: of_features[name] for name in encoders},
            frames={name: of_frames[name] for name in encoders if frames},
        )


def _record(row: IndexRow, payload: memoryview) -> ShardSample:
    """The JSON member as a record of the indexed key."""
    try:
        record = ShardSample.model_validate_json(bytes(payload))
    except ValidationError as error:
        raise ShardError(f"{where(row)}: its json is not a sample: {error}") from error
    if record.key != row.key:
        raise ShardError(f"{where(row)}: its json is of {record.key}. {CHANGED}")
    return record
