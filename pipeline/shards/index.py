"""`index.parquet`: one row a sample, so that any sample is found, and read, without a scan of the tars.

A column has an index of its own, so that it comes and goes without a change to this one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.storage.places import Place
from schemas.base import Sha256, digest
from schemas.ledger import INDEX, ShardSample
from schemas.sample import Sample, Split

SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("position", pa.int64()),  # in the order of the split, from 0
        ("key", pa.string()),
        ("shard", pa.string()),  # path in the mixture's folder
        ("source", pa.string()),
        ("modality", pa.string()),
        ("category", pa.string()),
        ("licence", pa.string()),
        ("generator", pa.string()),
        ("turns", pa.int32()),
        ("clips", pa.int32()),
        ("text_digest", pa.binary(16)),  # begin of `digest` of the turns
        ("media_digest", pa.binary(16)),  # likewise of the media's bytes and spans, and of the frames taken
        ("candidate_digest", pa.binary(16)),  # likewise of the candidate that it was made of
        ("offset", pa.int64()),  # of the first member's header, bytes
        ("members", pa.list_(pa.string())),  # suffixes, in the tar's order
        ("data_offsets", pa.list_(pa.int64())),  # of each member's data, bytes
        ("sizes", pa.list_(pa.int64())),  # of each member's data, bytes
    ]
)
COLUMN_SCHEMA = pa.schema(
    [SCHEMA.field(n) for n in ("split", "position", "key", "shard", "offset", "members", "data_offsets", "sizes")]
)
"""Of `index.{encoder}.parquet`, where a column's tars hold the sample of the same position."""
_ROWS_A_GROUP = 10_000


@dataclass(frozen=True)
class TarPlace:
    """Where one sample lies in its tar."""

    offset: int
    """Of the first member's header, bytes."""
    members: tuple[str, ...]
    """Suffixes, in order."""
    data_offsets: tuple[int, ...]
    sizes: tuple[int, ...]


class IndexWriter:
    """Writes rows in groups, so that memory stays flat. A context manager."""

    def __init__(self, path: Place, schema: pa.Schema = SCHEMA) -> None:
        # A fixed codec, level and format version: equal rows give equal bytes.
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd", compression_level=3, version="2.6")
        self._schema = schema
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        split: Split,
        position: int,
        key: str,
        shard: str,
        place: TarPlace,
        traits: Mapping[str, Any] | None = None,
    ) -> None:
        """Appends the row of one sample; `traits` are what only `index.parquet` tells."""
        self._rows.append(
            {
                "split": split.value,
                "position": position,
                "key": key,
                "shard": shard,
                "offset": place.offset,
                "members": place.members,
                "data_offsets": place.data_offsets,
                "sizes": place.sizes,
                **(traits or {}),
            }
        )
        if len(self._rows) >= _ROWS_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._flush()
            self._writer.close()


def traits(sample: ShardSample) -> dict[str, Any]:
    """What `index.parquet` tells of a sample besides its place."""
    return {
        "source": sample.source,
        "modality": sample.modality.value,
        "category": sample.category.value,
        "licence": sample.licence,
        "generator": sample.generator.name,
        "turns": len(sample.conversations),
        "clips": len(sample.clips),
        "text_digest": _short([turn.model_dump(mode="json") for turn in sample.conversations]),
        "media_digest": _short(
            [
                [[m.sha256 or m.path, m.start_ns, m.exclusive_end_ns] for m in sample.media],
                [clip.model_dump(mode="json") for clip in sample.clips],
            ]
        ),
        "candidate_digest": candidate_digest(sample, sample.binding_sha256),
    }


def candidate_digest(sample: Sample | ShardSample, binding_sha256: Sha256) -> bytes:
    """Tells whether a stored sample is of this candidate as it is now: its media, annotations, labels and terms."""
    fields = {"source", "modality", "category", "split", "licence", "annotator", "media"}
    return _short([binding_sha256, sample.model_dump(mode="json", include=fields)])


def _short(value: Any) -> bytes:
    """Enough to see a change: nobody gains by making two texts of one digest."""
    return bytes.fromhex(digest(value))[:16]


def starts_in(folder: Place, split: str, name: str = INDEX) -> list[int]:
    """Of each tar of a split, the position of its first sample, in order."""
    shards = read_index(folder, split, ["shard"], name)["shard"].to_pylist()
    return [at for at, shard in enumerate(shards) if not at or shard != shards[at - 1]]


def column_index(encoder: str) -> str:
    """Name of the index of a column."""
    return f"index.{encoder}.parquet"


def read_index(folder: Place, split: str, columns: Sequence[str] | None = None, name: str = INDEX) -> pa.Table:
    """The rows of one split, in order."""
    with (folder / name).open("rb") as file:
        table = pq.ParquetFile(file).read(columns=None if columns is None else ["split", *columns])
    return table.filter(pc.equal(table["split"], split))
