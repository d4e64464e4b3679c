"""Outcomes as Arrow rows: one row an input key, holding its record or its rejection.

A part file is an Arrow IPC file. Its first record batch holds key, type and record of every row, and of arrays what
their npy headers tell; behind it comes a batch for each row that has arrays. So who wants records, shapes or one
row's arrays reads these and no more. Arrays are npy files, so that what is read back is bit-equal to what was
written.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.runtime.contract import Keyed
from pipeline.storage.places import Place
from schemas.arrays import Features, FeaturesMeta
from schemas.base import Record
from schemas.conversation import Conversation
from schemas.npy import from_npy, npy_body, npy_header, npy_outline
from schemas.rejection import Rejection
from schemas.sample import Sample

Kind = TypeVar("Kind")
Named = Sequence[tuple[str, NDArray[Any]]]

ROWS_VERSION = 2
"""Of the form of part files: raise it when they are laid out otherwise."""

_versions: Counter[Place] = Counter()

_RECORDS: dict[str, type[Record]] = {model.__name__: model for model in (Sample, Conversation, Rejection)}


@cache
def schema() -> pa.Schema:
    """Columns of a part file."""
    array = pa.struct([("name", pa.string()), ("npy", pa.large_binary())])
    return pa.schema(
        [("key", pa.string()), ("type", pa.string()), ("json", pa.large_string()), ("arrays", pa.list_(array))]
    )


def write_rows(path: Place, outcomes: Sequence[Keyed]) -> None:
    """Writes one row an outcome, in order, with nothing in the file but them: equal input, equal bytes."""
    arrays = [_arrays(outcome) for outcome in outcomes]
    heads = [_to_row(outcome, named) for outcome, named in zip(outcomes, arrays, strict=True)]
    with _sink(path) as sink, pa.ipc.new_file(sink, schema()) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(heads, schema=schema()))
        for outcome, named in zip(outcomes, arrays, strict=True):
            if named:
                writer.write_batch(_array_batch(outcome.key, named))


def read_rows(path: Place, kind: type[Kind]) -> Iterator[Kind]:
    """The outcomes of type `kind` in a part file, in order; arrays are read-only, other rows stay unread."""
    part = _opened_now(path)
    for index, name in enumerate(part.head["type"].to_pylist()):
        if name == kind.__name__:
            yield cast("Kind", part.outcome(index))


def read_records(path: Place) -> Iterator[Record]:
    """The record of each row, in order; of features what is told beside their arrays, which stay unread."""
    head = _opened_now(path).head
    for name, text in zip(head["type"].to_pylist(), head["json"].to_pylist(), strict=True):
        yield _RECORDS.get(name, FeaturesMeta).model_validate_json(text)


def read_row(path: Place, index: int) -> Keyed:
    """One outcome of a part file; the others are not read."""
    return _opened_now(path).outcome(index)


def read_outline(path: Place, index: int) -> Keyed:
    """As `read_row`, but features have arrays of the right shapes and dtypes that hold nothing: none is read."""
    return _opened_now(path).outline(index)


def read_types(path: Place) -> list[tuple[str, str]]:
    """(key, type name) of each row, without reading records or arrays."""
    head = _opened_now(path).head
    return list(zip(head["key"].to_pylist(), head["type"].to_pylist(), strict=True))


class _Part:
    """A part file that is open. For many threads."""

    def __init__(self, source: Any) -> None:
        self._reader = pa.ipc.open_file(source)
        self._turn = threading.Lock()
        self.head = self._reader.get_batch(0)
        has_arrays = np.diff(self.head["arrays"].offsets.to_numpy()) > 0
        self._batches = np.cumsum(has_arrays)
        """Of each row with arrays, the number of the batch that holds them."""

    def outcome(self, index: int) -> Keyed:
        name, text = self._told(index)
        if name in _RECORDS:
            return cast("Keyed", _RECORDS[name].model_validate_json(text))
        arrays = self.head["arrays"][index]
        if not len(arrays):
            return _features(text, ())
        with self._turn:
            batch = self._reader.get_batch(int(self._batches[index]))
        return _features(text, ((name, from_npy(data)) for name, data in _items(batch["arrays"][0])))

    def outline(self, index: int) -> Keyed:
        name, text = self._told(index)
        if name in _RECORDS:
            return cast("Keyed", _RECORDS[name].model_validate_json(text))
        return _features(text, ((name, npy_outline(data)) for name, data in _items(self.head["arrays"][index])))

    def _told(self, index: int) -> tuple[str, str]:
        return self.head["type"][index].as_py(), self.head["json"][index].as_py()


def changed(path: Place) -> None:
    """Call it where a part file was written anew: of a store nobody asks before each row whether it was."""
    _versions[path] += 1


def _opened_now(path: Place) -> _Part:
    if isinstance(path, Path):
        status = path.stat()
        return _opened(path, status.st_ino, status.st_mtime_ns, status.st_size)
    return _opened(path, 0, 0, _versions[path])


@lru_cache(64)
def _opened(path: Place, _inode: int, _changed_ns: int, _size: int) -> _Part:
    """Whoever reads in order finds the file open. A part that is written anew is another file.

    A batch is one range of the file, read when it is asked for. Local files are not mapped: to read a batch into
    memory that is used again costs less than a page fault for every few pages of it.
    """
    return _Part(pa.OSFile(str(path), "rb") if isinstance(path, Path) else path.open("rb"))


def _sink(path: Place) -> Any:
    return pa.OSFile(str(path), "wb") if isinstance(path, Path) else path.open("wb")


def _arrays(outcome: Keyed) -> Named:
    if not isinstance(outcome, Features):
        return ()
    groups = (("features", outcome.arrays), ("frames", outcome.frames))
    return [(f"{group}/{name}", array) for group, arrays in groups for name, array in arrays.items()]


def _to_row(outcome: Keyed, named: Named) -> dict[str, Any]:
    """Of the first batch: with headers in place of arrays."""
    record = outcome.meta if isinstance(outcome, Features) else outcome
    if not isinstance(record, Record) or type(outcome).__name__ not in (*_RECORDS, Features.__name__):
        raise TypeError(f"no row form for {type(outcome).__name__}: only {[*_RECORDS, 'Features']} are stored")
    arrays = [{"name": name, "npy": npy_header(array)} for name, array in named]
    return {"key": outcome.key, "type": type(outcome).__name__, "json": record.canonical(), "arrays": arrays}


def _array_batch(key: str, named: Named) -> pa.RecordBatch:
    """One row with its arrays whole, copied once."""
    pieces = [(npy_header(array), npy_body(array)) for _, array in named]
    ends = np.cumsum([0, *(len(header) + body.nbytes for header, body in pieces)], dtype=np.int64)
    data = np.concatenate([np.frombuffer(piece, np.uint8) for pair in pieces for piece in pair])
    npys = pa.Array.from_buffers(pa.large_binary(), len(named), [None, pa.py_buffer(ends), pa.py_buffer(data)])
    names = pa.array([name for name, _ in named], pa.string())
    field = schema().field("arrays").type
    struct = pa.StructArray.from_arrays([names, npys], fields=list(field.value_type))
    arrays = pa.ListArray.from_arrays(pa.array([0, len(named)], pa.int32()), struct, type=field)
    return pa.RecordBatch.from_arrays(
        [pa.array([key], pa.string()), pa.array([""], pa.string()), pa.array([""], pa.large_string()), arrays],
        schema=schema(),
    )


def _items(arrays: Any) -> Iterator[tuple[str, pa.Buffer]]:
    """Name and npy file of each array of one row, not copied: an Arrow scalar of bytes is a copy of them."""
    names, npys = arrays.values.field("name"), arrays.values.field("npy")
    if len(npys):
        _, ends, data = npys.buffers()
        at = np.frombuffer(ends, np.int64, len(npys) + 1, 8 * npys.offset).tolist()
        for name, start, exclusive_end in zip(names.to_pylist(), at, at[1:], strict=False):
            yield name, data.slice(start, exclusive_end - start)


def _features(text: str, named: Iterable[tuple[str, NDArray[Any]]]) -> Features:
    arrays: dict[str, dict[str, NDArray[Any]]] = {"features": {}, "frames": {}}
    for item, array in named:
        group, _, name = item.partition("/")
        arrays[group][name] = array
    return Features(FeaturesMeta.model_validate_json(text), arrays["features"], arrays["frames"])
