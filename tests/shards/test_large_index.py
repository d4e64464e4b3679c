"""A mixture of a million samples is opened, and resumed anywhere, without holding its index."""

import json
import subprocess
import sys
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shard_factory as made

from pipeline.plan.order import interleave
from pipeline.shards import lookup
from pipeline.shards.index import SCHEMA
from schemas.ledger import INDEX, LEDGER, Ledger
from schemas.sample import Modality

GROUP, PER_SHARD = 10_000, 500

RESUME = """
import json, psutil, sys, time
from itertools import islice
from pathlib import Path
from pipeline.shards.stream import MixtureStream

def memory():
    return psutil.Process().memory_info().rss

folder, before = Path(sys.argv[1]), memory()
stream = MixtureStream(folder, "train", ["siglip"], global_batch=64, on_broken="skip")  # there are no tars at all
state, seconds = stream.state_dict(), []
for epoch, share in [(0, 0), (0, 0.01), (0, 0.5), (7, 0.99)]:
    start = time.perf_counter()
    stream = MixtureStream(folder, "train", ["siglip"], global_batch=64, on_broken="skip")
    stream.load_state_dict({**state, "epoch": epoch, "position": int(share * len(stream))})
    next(iter(stream))
    seconds.append(time.perf_counter() - start)
list(islice(stream, 1000))
print(json.dumps({"seconds": seconds, "bytes": memory() - before, "skipped": len(stream.skipped)}))
"""


def write_index(folder, samples):
    """An index and a ledger of so many samples, in no tars: groups of rows as IndexWriter makes them."""
    modalities = [str(m) for m in interleave(dict.fromkeys(Modality, GROUP // 4))]
    rng = np.random.default_rng(0)
    sizes = rng.integers(2_000, 10_000, (GROUP, 3))
    offsets = np.cumsum(sizes + 1_536, axis=1)
    lists = pa.array(np.arange(0, 3 * GROUP + 1, 3, dtype=np.int32))
    suffixes = ["json", "siglip.npy", "internvideo2.npy"]
    same = {
        "split": ["train"] * GROUP, "source": ["shapes"] * GROUP, "modality": modalities,
        "category": ["captioning"] * GROUP, "licence": ["CC0-1.0"] * GROUP, "generator": ["template"] * GROUP,
        "turns": [2] * GROUP, "clips": [1] * GROUP, "offset": offsets[:, 0] - 512,
        "members": pa.ListArray.from_arrays(lists, pa.array(suffixes * GROUP)),
        "data_offsets": pa.ListArray.from_arrays(lists, pa.array(offsets.ravel())),
        "sizes": pa.ListArray.from_arrays(lists, pa.array(sizes.ravel())),
        **{f"{name}_digest": [rng.bytes(16) for _ in range(GROUP)] for name in ("text", "media", "candidate")},
    }  # fmt: skip
    with pq.ParquetWriter(folder / INDEX, SCHEMA, compression="zstd", compression_level=3) as writer:
        for first in range(0, samples, GROUP):
            numbers = range(first, first + GROUP)
            columns = {
                **same,
                "position": list(numbers),
                "key": [f"shapes-{number:012x}" for number in numbers],
                "shard": [f"shards/train-{number // PER_SHARD:06d}.tar" for number in numbers],
            }
            writer.write_table(pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA))
    ledger = Ledger.read(folder)
    entry = next(tar for tar in ledger.shards if tar.split == "train")
    count = entry.count.model_copy(update={"samples": PER_SHARD})
    shards = [
        entry.model_copy(update={"name": f"shards/train-{n:06d}.tar", "count": count})
        for n in range(samples // PER_SHARD)
    ]
    (folder / LEDGER).write_text(ledger.model_copy(update={"shards": tuple(shards)}).model_dump_json())


@pytest.fixture(scope="module", params=[pytest.param(1_000_000, marks=pytest.mark.slow), 100_000])
def mixture(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    made.build(folder)
    write_index(folder, request.param)
    return folder, request.param


def test_no_more_groups_of_rows_are_held_than_told(mixture, monkeypatch):
    alive = weakref.WeakSet()

    class Counted(lookup._Group):
        def __init__(self, table):
            alive.add(self)
            super().__init__(table)

    monkeypatch.setattr(lookup, "_Group", Counted)
    index = lookup.SampleIndex(mixture[0], "train", groups=3)
    for position in range(0, len(index), GROUP // 2):
        assert index.row(position).key == f"shapes-{position:012x}"
        assert len(alive) <= 3


def test_a_run_resumes_anywhere_in_a_second_and_holds_little(mixture):
    folder, samples = mixture
    done = subprocess.run([sys.executable, "-c", RESUME, str(folder)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["skipped"] == 64 * 1001
    assert max(found["seconds"]) < 1
    # Arrow itself, 34 groups of rows, and 10 bytes a sample or so.
    assert found["bytes"] < 180 * 10**6 + 30 * samples  # the first are the libraries
