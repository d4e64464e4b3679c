"""One file of the request cache: replies in immutable Parquet, there whole or not at all."""

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.conversations.engine import Completion, Prompt
from pipeline.storage.faults import StoreError
from pipeline.storage.files import published, read_range
from pipeline.storage.places import Place
from schemas.base import InputError

SCHEMA = pa.schema(
    [
        pa.field("address", pa.binary(32), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("cached_tokens", pa.int32(), nullable=False),
        pa.field("output_tokens", pa.int32(), nullable=False),
        pa.field("model_sha256", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("put_ns", pa.int64(), nullable=False),
    ]
)
"""A row is a reply under its address; `put_ns` is when it came, by the clock of who asked."""
GROUP_ROWS = 256
"""In a row group: what is read and unpacked to get at one reply."""
WHOLE_BYTES = 2**20
"""An object below this is read at once: a commit of GROUP_ROWS replies is."""
_CODECS = {name: "none" if name == "address" else "zstd" for name in SCHEMA.names}
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}\.parquet")
_REPLACES = b"replaces"


class CacheError(InputError):
    """A file of the cache is not what was written there; its message names it and the mend."""


def new_name() -> str:
    """Of a segment that no other writer will write; names sort by time."""
    return f"{time.time_ns():016x}-{uuid.uuid4().hex}.parquet"


def segments_in(folder: Place) -> list[str]:
    """Names of the segments there, the oldest first; attempts and files of other names are none."""
    return sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))


def row_of(prompt: Prompt, completion: Completion) -> dict[str, Any]:
    """The row that keeps a reply."""
    return {
        **completion.model_dump(),
        "address": bytes.fromhex(completion.address),
        "model_sha256": prompt.model_sha256,
        "seed": prompt.seed,
        "put_ns": time.time_ns(),
    }


def write_segment(path: Place, table: pa.Table, replaces: Iterable[str] = ()) -> None:
    """Makes it a segment; from then on the segments that it `replaces` (names) count as gone."""
    table = table.replace_schema_metadata({_REPLACES: json.dumps(sorted(replaces))})
    with published(path) as attempt, attempt.open("wb") as file:
        pq.write_table(
            table,
            file,
            row_group_size=GROUP_ROWS,
            compression=_CODECS,
            use_dictionary=["finish", "model_sha256"],
            write_statistics=False,
            write_page_checksum=True,
        )


class Segment:
    """A segment, open. For one thread at a time.

    Raises FileNotFoundError where it is gone, which a segment may be once another replaces it, StoreError where the
    store cannot be read, and CacheError where the file is damaged or no segment.
    """

    def __init__(self, path: Place) -> None:
        self._path = path
        with self._told():
            self._file = pq.ParquetFile(
                _opened(path), page_checksum_verification=True, pre_buffer=not isinstance(path, Path)
            )
            schema = self._file.schema_arrow
            if not schema.equals(SCHEMA):
                raise self._refusal(f"it has columns {', '.join(schema.names)}")
            self.replaces = frozenset[str](json.loads((schema.metadata or {}).get(_REPLACES, b"[]")))
        self.rows: int = self._file.metadata.num_rows

    def addresses(self) -> NDArray[np.uint8]:
        """[rows, 32] uint8."""
        found = [_bytes_of(chunk) for chunk in self.read(["address"])["address"].chunks]
        return np.concatenate(found or [np.empty((0, 32), np.uint8)])

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows."""
        with self._told():
            return self._whole(self._file.read(columns=columns), self.rows)

    def group(self, number: int) -> pa.Table:
        """Rows [number * GROUP_ROWS, (number + 1) * GROUP_ROWS)."""
        with self._told():
            return self._whole(
                self._file.read_row_group(number, use_threads=False),
                min(self.rows - number * GROUP_ROWS, GROUP_ROWS),
            )

    def _whole(self, table: pa.Table, rows: int) -> pa.Table:
        """Checksums are of pages: one that is lost whole fails none."""
        table.validate()
        if len(table) != rows:
            raise self._refusal(f"{len(table)} rows for {rows}")
        return table

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, StoreError, CacheError):
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._refusal(str(error).splitlines()[0]) from error

    def _refusal(self, seen: str) -> CacheError:
        return CacheError(
            f"{self._path}: no whole segment of the request cache ({seen}); copy it here again, or remove it: "
            "the replies in it are then asked for, and paid for, once more"
        )


def _opened(path: Place) -> Any:
    """A file for Arrow; a small object comes in one request, without asking for its size first."""
    if isinstance(path, Path):
        return pa.OSFile(str(path))
    begin = read_range(path, 0, WHOLE_BYTES)
    return pa.BufferReader(begin) if len(begin) < WHOLE_BYTES else path.open("rb")


def _bytes_of(addresses: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    count = 32 * len(addresses)
    return np.frombuffer(addresses.buffers()[1], np.uint8, count, 32 * addresses.offset).reshape(-1, 32)
