"""Outcomes as Arrow rows: one row an input key, holding its record or its rejection.

A part file is an Arrow IPC file of these rows. Arrays are stored as `.npy` bytes, so that what is
read back is bit-equal to what was written.
"""

import io
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.runtime.contract import Keyed
from pipeline.storage.places import Place, S3Path
from schemas.arrays import Features, FeaturesMeta
from schemas.base import Record
from schemas.conversation import Conversation
from schemas.rejection import Rejection
from schemas.sample import Sample

Kind = TypeVar("Kind")

CHUNK_BYTES = 32 * 2**20
"""Of arrays in one record batch of a part file, or a single row's where those are more."""

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
    with path.open("wb") as sink, pa.ipc.new_file(sink, schema()) as writer:
        for rows in _chunks(outcomes):
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema()))


def _chunks(outcomes: Sequence[Keyed]) -> Iterator[list[dict[str, Any]]]:
    """Rows, as many together as hold `CHUNK_BYTES` of arrays: copies stay small, in memory that is used again."""
    rows: list[dict[str, Any]] = []
    held = 0
    for outcome in outcomes:
        rows.append(_to_row(outcome))
        held += sum(len(array["npy"]) for array in rows[-1]["arrays"])
        if held >= CHUNK_BYTES:
            yield rows
            rows, held = [], 0
    if rows:
        yield rows


def read_rows(path: Place, kind: type[Kind]) -> Iterator[Kind]:
    """The outcomes of type `kind` in a part file, in order; arrays are read-only, other rows stay unread."""
    table, record = _table(path), _RECORDS.get(kind.__name__)
    for index, name in enumerate(table["type"].to_pylist()):
        if name == kind.__name__:
            row = table["json"][index].as_py() if record else table.slice(index, 1).to_pylist()[0]
            yield cast("Kind", record.model_validate_json(row) if record else _from_row(row))


def read_records(path: Place) -> Iterator[Record]:
    """The record of each row, in order; of features what is told beside their arrays, which stay unread."""
    table = _table(path)
    for name, text in zip(table["type"].to_pylist(), table["json"].to_pylist(), strict=True):
        yield _RECORDS.get(name, FeaturesMeta).model_validate_json(text)


def read_row(path: Place, index: int) -> Keyed:
    """One outcome of a part file; the others are not read from the disk."""
    return _from_row(_table(path).slice(index, 1).to_pylist()[0])


def read_types(path: Place) -> list[tuple[str, str]]:
    """(key, type name) of each row, without reading records or arrays."""
    table = _table(path)
    return list(zip(table["key"].to_pylist(), table["type"].to_pylist(), strict=True))


def _table(path: Place) -> pa.Table:
    if isinstance(path, S3Path):
        return _opened(path, path.stat().etag, 0)
    status = path.stat()
    return _opened(path, status.st_ino, status.st_mtime_ns)


@lru_cache(64)
def _opened(path: Place, _which: int | str, _changed_ns: int) -> pa.Table:
    """Whoever reads in order finds the file open. A part that is written anew is another file."""
    return pa.ipc.open_file(path.open("rb") if isinstance(path, S3Path) else pa.memory_map(str(path))).read_all()


def _to_row(outcome: Keyed) -> dict[str, Any]:
    if isinstance(outcome, Features):
        named: list[tuple[str, NDArray[Any]]] = [
            (f"features/{name}", array) for name, array in outcome.arrays.items()
        ]
        named += [(f"frames/{name}", array) for name, array in outcome.frames.items()]
        meta: Record = outcome.meta
    elif isinstance(outcome, Record) and type(outcome).__name__ in _RECORDS:
        named, meta = [], outcome
    else:
        raise TypeError(f"no row form for {type(outcome).__name__}: only {[*_RECORDS, 'Features']} are stored")
    arrays = [{"name": name, "npy": _to_npy(array)} for name, array in named]
    return {"key": outcome.key, "type": type(outcome).__name__, "json": meta.canonical(), "arrays": arrays}


def _from_row(row: dict[str, Any]) -> Keyed:
    if row["type"] != "Features":
        return _RECORDS[row["type"]].model_validate_json(row["json"])  # type: ignore[return-value]
    arrays: dict[str, dict[str, NDArray[Any]]] = {"features": {}, "frames": {}}
    for item in row["arrays"]:
        group, _, name = item["name"].partition("/")
        arrays[group][name] = np.load(io.BytesIO(item["npy"]), allow_pickle=False)
    return Features(FeaturesMeta.model_validate_json(row["json"]), arrays["features"], arrays["frames"])


def _to_npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
