"""A split's samples and their columns as one: which members of which tars make a sample, and its arrays."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.shards.arrays import features, pictures, suffixes
from pipeline.shards.index import column_index
from pipeline.shards.lookup import IndexRow, SampleIndex, ShardError
from pipeline.shards.payloads import Payloads, Span, spans
from pipeline.storage.places import Place
from schemas.ledger import INDEX, LEDGER, Ledger
from schemas.sample import Category, Modality


class Part(NamedTuple):
    """What of a sample lies in one tar."""

    row: IndexRow
    reads: list[Span]
    """What is wanted of it."""
    encoders: tuple[str, ...]
    """Whose arrays they are."""


Arrays = tuple[dict[str, NDArray[np.float16]], dict[str, NDArray[np.uint8]]]
"""Features and frames by encoder: 5-D, as `StoredSample` has them."""


class JoinedIndex:
    """The index of a split, and those of its columns, read when first asked for.

    Raises ShardError when the folder has no index or ledger, or no sample of the split.
    """

    def __init__(self, folder: Place, split: str, groups: int | None = None) -> None:
        """Of the mixture in `folder`; `groups` as in SampleIndex."""
        self.folder, self._split, self._groups = folder, split, groups
        if absent := [name for name in (INDEX, LEDGER) if not (folder / name).is_file()]:
            raise ShardError(f"{folder} has no {' and no '.join(absent)}: give the folder of a finished mixture")
        self.ledger = Ledger.read(folder)
        self.samples = SampleIndex(folder, split, INDEX, groups)
        """Of the samples' own tars."""
        self._columns: dict[str, SampleIndex | None] = {column.encoder: None for column in self.ledger.columns}

    def __len__(self) -> int:
        return len(self.samples)

    def positions(
        self, modalities: Sequence[Modality] = (), categories: Sequence[Category] = ()
    ) -> NDArray[np.int64]:
        """Positions, ascending, of samples of these modalities and categories; none named means all."""
        chosen = np.ones(len(self), dtype=bool)
        for column, wanted in (("modality", modalities), ("category", categories)):
            if wanted:
                chosen &= self.samples.codes(column, [str(value) for value in wanted]) != 255
        return np.flatnonzero(chosen)

    def parts(self, row: IndexRow, position: int, encoders: Sequence[str], frames: bool) -> list[Part]:
        """Where the sample at `position`, of that row, lies: its own tar, json first, then those of columns.

        Raises ValueError for an encoder or frames that the mixture lacks; ShardError where a column is not whole.
        """
        beside = tuple(name for name in encoders if name not in self._columns)
        found = [Part(row, spans(row, ("json", *suffixes(row.members, beside, frames))), beside)]
        for name in encoders:
            if name in self._columns:
                apart = self._column(name).row(position)
                if apart.key != row.key:
                    raise ShardError(
                        f"{self.folder / column_index(name)} is of other samples than {INDEX}: {apart.key} stands "
                        f"for {row.key}. Build the mixture again"
                    )
                found.append(Part(apart, spans(apart, suffixes(apart.members, (name,), frames)), (name,)))
        return found

    def _column(self, encoder: str) -> SampleIndex:
        if (index := self._columns[encoder]) is None:
            name = column_index(encoder)
            if not (self.folder / name).is_file():
                raise ShardError(f"{self.folder} has no {name}: its column {encoder} is not whole")
            index = self._columns[encoder] = SampleIndex(self.folder, self._split, name, self._groups)
            if len(index) != len(self):
                raise ShardError(f"{self.folder / name} is of other samples than {INDEX}: build the mixture again")
        return index


def arrays(
    parts: Sequence[Part], found: Sequence[Payloads], frames: bool, clip_frames: Callable[[], Sequence[int]]
) -> Arrays:
    """Features, and frames where wanted, of the encoders of `parts` from their payloads.

    `clip_frames` tells how many frames each clip has. Raises ShardError where a member holds no such array.
    """
    of_features: dict[str, NDArray[np.float16]] = {}
    of_frames: dict[str, NDArray[np.uint8]] = {}
    for part, payloads in zip(parts, found, strict=True):
        for name in part.encoders:
            of_features[name] = features(part.row, payloads, name)
            if frames:
                of_frames[name] = pictures(part.row, payloads, name, clip_frames)
    return of_features, of_frames
