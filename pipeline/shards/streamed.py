"""One sample of a stream: what to read of it, the reading, and what becomes of the bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from pipeline.shards.joined import JoinedIndex, Part, arrays
from pipeline.shards.lookup import IndexRow, ShardError
from pipeline.shards.payloads import CHANGED, Payloads, Tar, Tars, payloads, where


@dataclass(frozen=True, slots=True)
class StreamSample:
    """One sample as the shards hold it. The arrays are the caller's own and writable."""

    position: int
    """In the stored order of the split."""
    key: str
    json: dict[str, Any]
    """The JSON member: the fields of `schemas.ledger.ShardSample`; nothing but the key is checked."""
    features: dict[str, NDArray[np.float16]]
    """`[clips, time, height, width, channels] float16` for each encoder asked for; int8 is restored."""
    frames: dict[str, NDArray[np.uint8]]
    """`[clips, frames, height, width, 3] uint8` for each encoder, where frames were asked for."""


class Skipped(NamedTuple):
    """A sample that was left out because it could not be read."""

    position: int
    """In the stored order of the split."""
    shard: str
    """Where it lies: path in the mixture's folder."""
    key: str
    reason: str
    """Names the tar that cannot be read; it may be a column's."""


@dataclass(frozen=True)
class Wanted:
    """What a sample takes: encoders and frames of it."""

    index: JoinedIndex
    encoders: tuple[str, ...]
    frames: bool

    def located(self, position: int, tars: Tars) -> "Located":
        """Where it lies. A tar or column that is not there is told when the sample's turn has come."""
        row = self.index.samples.row(position)
        try:
            parts = self.index.parts(row, position, self.encoders, self.frames)
            return Located(position, row, parts, [tars.of(part.row) for part in parts])
        except ShardError as error:
            return Located(position, row, [], [], error)

    def sample(self, located: "Located", found: Sequence[Payloads]) -> StreamSample:
        """From the bytes. Raises ShardError where they are not what they should be."""
        row = located.row
        record = _record(row, found[0]["json"])
        features, frames = arrays(located.parts, found, self.frames, lambda: _clip_frames(row, record))
        return StreamSample(
            located.position,
            row.key,
            record,
            {name: features[name] for name in self.encoders},
            {name: frames[name] for name in self.encoders if self.frames},
        )


@dataclass(frozen=True, slots=True)
class Located:
    """A sample that is to be read."""

    position: int
    row: IndexRow
    parts: list[Part]
    tars: list[Tar]
    """One a part."""
    error: ShardError | None = None
    """Why it cannot be."""

    def read(self, tars: Sequence[Tar] | None = None) -> list[Payloads] | ShardError:
        """The payloads of each part, or why there are none; out of `tars`, if they stand in. For any thread."""
        if self.error:
            return self.error
        parts = zip(self.tars if tars is None else tars, self.parts, strict=True)
        try:
            return [payloads(tar, part.row, part.reads) for tar, part in parts]
        except ShardError as error:
            return error


def _record(row: IndexRow, payload: memoryview) -> dict[str, Any]:
    try:
        record = from_json(bytes(payload))
    except ValueError as error:
        raise ShardError(f"{where(row)}: its json is not a sample: {error}") from error
    key = record.get("key") if isinstance(record, dict) else None
    if key != row.key:
        raise ShardError(f"{where(row)}: its json is of {key}. {CHANGED}")
    return record  # type: ignore[no-any-return]


def _clip_frames(row: IndexRow, record: dict[str, Any]) -> list[int]:
    try:
        return [len(clip["t_ns"]) for clip in record["clips"]]
    except (KeyError, TypeError) as error:
        raise ShardError(f"{where(row)}: its json is not a sample: no times of its clips") from error
