"""MosaicML Streaming, for shards_readers.py, in an environment of its own; it reads the samples as MDS.

python shards_reader_streaming.py TAR ... FOLDER     converts
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import streaming
import webdataset
from shards_readers import ENCODERS, Batch, Reader, Sample, grouped, plain, shared
from torch.utils.data import DataLoader

COLUMNS = {"key": "str", "json": "json"} | dict.fromkeys(ENCODERS, "ndarray:float16")
SHARD_BYTES = 64 * 2**20


def convert(tars: list[str], folder: str) -> None:
    """No compression and no hashes: what it reads is all it has to do. Empty arrays become a lone number."""
    with streaming.MDSWriter(out=folder, columns=COLUMNS, size_limit=SHARD_BYTES) as writer:
        for sample in webdataset.WebDataset(tars, shardshuffle=False).decode():
            row = plain(sample)
            arrays = {name: row[name] if row[name].size else np.zeros((1,) * 5, np.float16) for name in ENCODERS}
            writer.write(row | arrays)


def _emptied(sample: Sample) -> Sample:
    """MDS encodes no empty array."""
    return sample | {name: sample[name][:0] for name in ENCODERS if sample[name].size == 1}


def _shared(batch: Batch) -> Batch:
    return shared([_emptied(sample) for sample in batch])


class Streaming(Reader):
    """A local folder; of a store, with an empty folder as its cache."""

    def batches(self, job: dict[str, Any]) -> Iterator[Batch]:
        """One epoch."""
        return self._of(_dataset(job), job)

    def state(self, job: dict[str, Any], done: int) -> Any:
        """What it would save."""
        dataset = _dataset(job)
        next(iter(dataset))
        return dataset.state_dict(done, from_beginning=True)

    def resumed(self, job: dict[str, Any], state: Any) -> Iterator[Batch]:
        """The rest of the epoch."""
        dataset = _dataset(job)
        dataset.load_state_dict(state)
        return self._of(dataset, job)

    def _of(self, dataset: Any, job: dict[str, Any]) -> Iterable[Batch]:
        if not job["workers"]:
            return grouped(map(_emptied, dataset), job["batch"])
        return DataLoader(dataset, batch_size=job["batch"], num_workers=job["workers"], collate_fn=_shared)


def _dataset(job: dict[str, Any]) -> Any:
    streaming.base.util.clean_stale_shared_memory()
    where = {"local": job["mds"]}
    if job["mds"].startswith("s3://"):
        where = {"remote": job["mds"], "local": tempfile.mkdtemp(dir=job["cache"])}
    return streaming.StreamingDataset(**where, shuffle=job["shuffle"], batch_size=job["batch"])


READER = Streaming()

if __name__ == "__main__":
    convert(sys.argv[1:-1], sys.argv[-1])
