"""One reader in a process of its own: a job a line of JSON on standard input, an answer a line on standard output.

    python shards_readers.py NAME      NAME: ours, webdataset, energon or streaming

All readers do the same work: every sample of one epoch, its JSON as a dict and its arrays as NumPy's, in lists of
so many. What is timed begins before the dataset is opened and ends after the last sample; imports are left out.
With workers the arrays cross to this process in shared memory: ours as its loader does it, the others' as tensors,
which is what torch's own way is.
"""

import importlib
import json
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TextIO

import numpy as np

Sample = dict[str, Any]
"""`key`, `json`, and arrays by the encoders' names."""
Batch = list[Sample]
ENCODERS = ("siglip", "internvideo2")
BUFFER = 100
"""Samples, or shards, that a reader's shuffling mixes."""
MODULES = {
    "ours": "shards_reader_ours",
    "webdataset": "shards_reader_webdataset",
    "energon": "shards_reader_energon",
    "streaming": "shards_reader_streaming",
}


class Reader:
    """What a module of MODULES gives as `READER`."""

    def batches(self, job: dict[str, Any]) -> Iterable[Batch]:
        """One epoch of `job["place"]`: in lists of `job["batch"]`, by `job["workers"]`, where asked shuffled."""
        raise NotImplementedError

    def state(self, job: dict[str, Any], done: int) -> Any:
        """What the reader itself would save after `done` samples; None where it has no such thing."""
        raise NotImplementedError

    def resumed(self, job: dict[str, Any], state: Any) -> Iterable[Batch]:
        """The rest of the epoch by that state, or by reading what goes before where there is none."""
        raise NotImplementedError


def read(reader: Reader, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of an epoch and to its first batch; what came, so that all readers can be held to the same."""
    begin = time.perf_counter()
    first, samples, size = 0.0, 0, 0
    for batch in reader.batches(job):
        first = first or time.perf_counter() - begin
        samples += len(batch)
        size += sum(_touched(sample) for sample in batch)
    return {"seconds": time.perf_counter() - begin, "first_s": first, "samples": samples, "bytes": size}


def digest(reader: Reader, job: dict[str, Any]) -> dict[str, Any]:
    """Of all contents, in any order; not timed."""
    total = 0
    for batch in reader.batches(job):
        for sample in batch:
            found = zlib.crc32(json.dumps([sample["key"], sample["json"]], sort_keys=True).encode())
            for array in (np.asarray(sample[name]) for name in ENCODERS):
                shape = array.shape if array.size else (0,)  # MDS knows no shape of what is empty
                found = zlib.crc32(array.tobytes(), zlib.crc32(f"{array.dtype} {shape}".encode(), found))
            total += found
    return {"digest": total}


def resume(reader: Reader, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds from nothing to the first batch after `job["done"]` samples."""
    state = reader.state(job, job["done"])
    begin = time.perf_counter()
    batch = next(iter(reader.resumed(job, state)))
    return {"seconds": time.perf_counter() - begin, "key": batch[0]["key"]}


def _touched(sample: Sample) -> int:
    """Bytes of the arrays; a byte a page of each is looked at, so that none may be left on the disk."""
    size = 0
    for name in ENCODERS:
        array = np.asarray(sample[name])
        array.reshape(-1)[:: 4096 // array.itemsize].sum(dtype=np.float32)
        size += array.nbytes
    return size


def grouped(samples: Iterable[Sample], size: int) -> Iterator[Batch]:
    """Lists of so many."""
    rows = iter(samples)
    while batch := list(islice(rows, size)):
        yield batch


def plain(sample: Any) -> Sample:
    """From a dict with the members' suffixes."""
    return {
        "key": sample["__key__"],
        "json": sample["json"],
        **{name: sample[f"{name}.npy"] for name in ENCODERS},
    }


def shared(batch: Batch) -> Batch:
    """Arrays as tensors, which cross between processes in shared memory."""
    import torch

    return [sample | {name: torch.from_numpy(sample[name]) for name in ENCODERS} for sample in batch]


def main() -> None:
    """Answers until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    reader = importlib.import_module(MODULES[sys.argv[1]]).READER
    _tell(answers, {"ready": True})
    asked: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        work.__name__: partial(work, reader) for work in (read, digest, resume)
    }
    for line in sys.stdin:
        job = json.loads(line)
        try:
            _tell(answers, asked[job["work"]](job))
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way; its failure is the answer
            traceback.print_exc()
            _tell(answers, {"error": f"{type(error).__name__}: {error}"[:300]})


def _tell(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.modules["shards_readers"] = sys.modules["__main__"]
    main()
