"""Random access to a finished mixture: the index says where, one positioned read a member fetches it.

No file stays open between reads, so a reader may be pickled, forked and used from threads.
"""

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.shards.index import column_index, read_index
from pipeline.shards.mjpeg import MjpegError, from_mjpeg
from pipeline.storage.files import read_range
from pipeline.storage.places import Place
from schemas.arrays import EncoderProvenance, restored
from schemas.ledger import INDEX, LEDGER, Ledger, ShardSample
from schemas.sample import Category, Modality

_CHANGED = f"The tar is not the one {INDEX} was written for: build the mixture again, or restore both."
PLACE = ("key", "shard", "members", "data_offsets", "sizes")
"""Columns of an index that say where a sample lies."""


class ShardError(LookupError):
    """A tar does not hold what the index says. The message names shard and key."""


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
        self._folder, self._split = folder, split
        if absent := [name for name in (INDEX, LEDGER) if not (folder / name).is_file()]:
            raise ShardError(f"{folder} has no {' and no '.join(absent)}: give the folder of a finished mixture")
        ledger = Ledger.read(folder)
        self.encoders: tuple[EncoderProvenance, ...] = ledger.encoders
        """All encoders, in the order in which a connector joins them."""
        self._index = self._read_index(INDEX, (*PLACE, "modality", "category"))
        self._columns: dict[str, pa.Table | None] = {column.encoder: None for column in ledger.columns}

    def __len__(self) -> int:
        """Samples of the split."""
        return int(self._index.num_rows)

    def positions(self, modalities: Sequence[Modality] = (), categories: Sequence[Category] = ()) -> list[int]:
        """Positions, ascending, of samples of these modalities and categories; none named means all."""
        chosen = np.ones(len(self), dtype=bool)
        for column, wanted in (("modality", modalities), ("category", categories)):
            if wanted:
                values = pa.array([str(value) for value in wanted], pa.string())
                chosen &= pc.is_in(self._index[column], value_set=values).to_numpy()
        return [int(position) for position in np.flatnonzero(chosen)]

    def position(self, key: str) -> int:
        """Where the sample of this key stands. Raises LookupError when the split has no such sample."""
        found = pc.index(self._index["key"], key).as_py()
        if found < 0:
            raise LookupError(f"no sample {key!r} in this split of {len(self)}")
        return int(found)

    def read(self, position: int, encoders: Sequence[str], frames: bool = False) -> StoredSample:
        """The sample at `position`, 0 <= position < len, with features (and frames) of these encoders.

        Raises IndexError for a position outside the split, ValueError for a column the shards lack
        and ShardError when the tar is missing, cut short or not the one that was indexed.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of a split of {len(self)} samples")
        shard = self._tar(self._index, position)
        apart = [name for name in encoders if name in self._columns]
        beside = [name for name in encoders if name not in self._columns]
        payloads = shard.payloads(["json", *shard.suffixes(beside, frames)])
        sample = shard.record(payloads["json"])
        found = {name: shard.arrays(payloads, name, sample, frames) for name in beside}
        for name in apart:
            column = self._tar(self._column(name), position)
            found[name] = column.arrays(column.payloads(column.suffixes([name], frames)), name, sample, frames)
        return StoredSample(
            sample=sample,
            features={name: found[name][0] for name in encoders},
            frames={name: found[name][1] for name in encoders if frames},
        )

    def _tar(self, index: pa.Table, position: int) -> "IndexedSample":
        row = index.slice(position, 1).to_pylist()[0]
        return IndexedSample(self._folder / row["shard"], row)

    def _read_index(self, name: str, fields: Sequence[str]) -> pa.Table:
        index: pa.Table = read_index(self._folder, self._split, fields, name).combine_chunks()
        if not index.num_rows:
            raise ShardError(f"{self._folder / name} lists no sample of split {self._split!r}")
        return index

    def _column(self, encoder: str) -> pa.Table:
        """Where a column lies, read when first asked for. Its keys must be the shards' own, in their order."""
        if (index := self._columns[encoder]) is None:
            name = column_index(encoder)
            if not (self._folder / name).is_file():
                raise ShardError(f"{self._folder} has no {name}: its column {encoder} is not whole")
            index = self._columns[encoder] = self._read_index(name, PLACE)
            if not index["key"].equals(self._index["key"]):
                raise ShardError(f"{self._folder / name} is of other samples than {INDEX}: build the mixture again")
        return index


class IndexedSample:
    """The members of one indexed sample."""

    def __init__(self, path: Place, row: dict[str, Any]) -> None:
        self._path, self._key = path, row["key"]
        self._where = f"{row['shard']}, sample {self._key}"
        places = zip(row["data_offsets"], row["sizes"], strict=True)
        self._places: dict[str, tuple[int, int]] = dict(zip(row["members"], places, strict=True))

    def suffixes(self, encoders: Sequence[str], frames: bool) -> list[str]:
        """The members that hold these encoders' features, and frames."""
        found = []
        for name in encoders:
            found += [f"{name}.npy"] + [s for s in (f"{name}.scale.npy",) if s in self._places]
            found += [self._frames(name)] if frames else []
        return found

    def arrays(
        self, payloads: dict[str, bytearray], encoder: str, sample: ShardSample, frames: bool
    ) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Features and frames of one encoder from its members; no frames where they were not asked for."""
        scale = f"{encoder}.scale.npy"
        codes = self.array(payloads, f"{encoder}.npy", np.int8 if scale in payloads else np.float16)
        columns = {encoder: codes}
        if scale in payloads:
            columns[f"{encoder}.scale"] = self.array(payloads, scale, np.float16)
        shown = self._pictures(payloads, encoder, sample) if frames else np.zeros((0,) * 4 + (3,), np.uint8)
        return restored(encoder, columns), shown

    def _pictures(self, payloads: dict[str, bytearray], encoder: str, sample: ShardSample) -> NDArray[np.uint8]:
        suffix = self._frames(encoder)
        if suffix.endswith(".npy"):
            return self.array(payloads, suffix, np.uint8)
        try:
            return from_mjpeg(payloads[suffix], [len(clip.t_ns) for clip in sample.clips])
        except MjpegError as error:
            raise ShardError(f"{self._where}: {suffix} cannot be read: {error}") from error

    def _frames(self, encoder: str) -> str:
        mjpeg = f"{encoder}.frames.mjpeg"
        return mjpeg if mjpeg in self._places else f"{encoder}.frames.npy"

    def payloads(self, suffixes: Sequence[str]) -> dict[str, bytearray]:
        """The bytes of these members, each proven to be the member that the index means."""
        if missing := [suffix for suffix in suffixes if suffix not in self._places]:
            raise ValueError(
                f"{self._where} has no {', '.join(missing)}, only {', '.join(self._places)}: name encoders "
                "of this mixture; frames are stored only where the recipe's shards.frames_for asks for them"
            )
        try:
            return {suffix: self._payload(suffix) for suffix in suffixes}
        except OSError as error:
            raise ShardError(f"{self._where}: cannot open {self._path}: {error.strerror or error}") from error

    def record(self, payload: bytearray) -> ShardSample:
        """The JSON member as a record of the indexed key."""
        try:
            record = ShardSample.model_validate_json(bytes(payload))
        except ValidationError as error:
            raise ShardError(f"{self._where}: its json is not a sample: {error}") from error
        if record.key != self._key:
            raise ShardError(f"{self._where}: its json is of {record.key}. {_CHANGED}")
        return record

    def array(self, payloads: dict[str, bytearray], suffix: str, dtype: type) -> NDArray[Any]:
        """A five-dimensional npy member over its own bytes: no copy, no pickle."""
        try:
            array = _npy(payloads[suffix])
        except ValueError as error:
            raise ShardError(f"{self._where}: {suffix} is not a plain npy file: {error}") from error
        if array.dtype != dtype or array.ndim != 5:
            raise ShardError(f"{self._where}: {suffix} is {array.dtype} {array.shape}, not 5-D {np.dtype(dtype)}")
        return array

    def _payload(self, suffix: str) -> bytearray:
        offset, size = self._places[suffix]
        data = bytearray(read_range(self._path, offset - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE + size))
        if len(data) < tarfile.BLOCKSIZE + size:
            raise ShardError(
                f"{self._where}: the tar ends at byte {self._path.stat().st_size}, but the index puts {suffix} "
                f"at [{offset}, {offset + size}): it was cut short. Copy or build it again."
            )
        self._check_header(bytes(data[: tarfile.BLOCKSIZE]), suffix, size)
        del data[: tarfile.BLOCKSIZE]
        return data

    def _check_header(self, block: bytes, suffix: str, size: int) -> None:
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ShardError(f"{self._where}: no tar header before {suffix} ({error}). {_CHANGED}") from error
        if (header.name, header.size) != (f"{self._key}.{suffix}", size):
            raise ShardError(
                f"{self._where}: found {header.name} of {header.size} bytes where the index puts "
                f"{suffix} of {size}. {_CHANGED}"
            )


def _npy(data: bytearray) -> NDArray[Any]:
    """The array of an npy file of version 1.0 (`numpy.lib.format`), sharing memory with `data`."""
    stream = io.BytesIO(data[: 10 + 65_535])
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not of npy version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or fortran:
        raise ValueError(f"{dtype} with {fortran = }: only plain numbers in C order are stored")
    start = stream.tell()
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) - start != count * dtype.itemsize:
        raise ValueError(f"{len(data) - start} bytes of data for {shape} {dtype}")
    return np.frombuffer(data, dtype=dtype, count=count, offset=start).reshape(shape)
