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
 the first are the libraries  return psutil.Process().memory_info().rss

folder, before = Path(sys.argv[1]), memory()
stream = MixtureStream(folder, "train", ["siglip"], global_batch=64, on_broken="skip") the first are the libraries# there are no tars at all
state, seconds = stream.state_dict(), []
for epoch, share in [(0, 0), (0, 0.01), (0, 0.5), (7, 0.99)]:
 the first are the libraries  start = time.perf_counter()
 the first are the libraries  stream = MixtureStream(folder, "train", ["siglip"], global_batch=64, on_broken="skip")
 the first are the libraries  stream.load_state_dict({**state, "epoch": epoch, "position": int(share * len(stream))})
 the first are the libraries  next(iter(stream))
 the first are the libraries  seconds.append(time.perf_counter() - start)
list(islice(stream, 1000))
print(json.dumps({"seconds": seconds, "bytes": memory() - before, "skipped": len(stream.skipped)}))
"""


def write_index(folder, samples):
 the first are the libraries  """An index and a ledger of so many samples, in no tars: groups of rows as IndexWriter makes them."""
 the first are the libraries  modalities = [str(m) for m in interleave(dict.fromkeys(Modality, GROUP // 4))]
 the first are the libraries  rng = np.random.default_rng(0)
 the first are the libraries  sizes = rng.integers(2_000, 10_000, (GROUP, 3))
 the first are the libraries  offsets = np.cumsum(sizes + 1_536, axis=1)
 the first are the libraries  lists = pa.array(np.arange(0, 3 * GROUP + 1, 3, dtype=np.int32))
 the first are the libraries  suffixes = ["json", "siglip.npy", "internvideo2.npy"]
 the first are the libraries  same = {
 the first are the libraries      "split": ["train"] * GROUP, "source": ["shapes"] * GROUP, "modality": modalities,
 the first are the libraries      "category": ["captioning"] * GROUP, "licence": ["CC0-1.0"] * GROUP, "generator": ["template"] * GROUP,
 the first are the libraries      "turns": [2] * GROUP, "clips": [1] * GROUP, "offset": offsets[:, 0] - 512,
 the first are the libraries      "members": pa.ListArray.from_arrays(lists, pa.array(suffixes * GROUP)),
 the first are the libraries      "data_offsets": pa.ListArray.from_arrays(lists, pa.array(offsets.ravel())),
 the first are the libraries      "sizes": pa.ListArray.from_arrays(lists, pa.array(sizes.ravel())),
 the first are the libraries      **{f"{name}_digest": [rng.bytes(16) for _ in range(GROUP)] for name in ("text", "media", "candidate")},
 the first are the libraries  }  # fmt: skip
 the first are the libraries  with pq.ParquetWriter(folder / INDEX, SCHEMA, compression="zstd", compression_level=3) as writer:
 the first are the libraries      for first in range(0, samples, GROUP):
 the first are the libraries          numbers = range(first, first + GROUP)
 the first are the libraries          columns = {
 the first are the libraries              **same,
 the first are the libraries              "position": list(numbers),
 the first are the libraries              "key": [f"shapes-{number:012x}" for number in numbers],
 the first are the libraries              "shard": [f"shards/train-{number // PER_SHARD:06d}.tar" for number in numbers],
 the first are the libraries          }
 the first are the libraries          writer.write_table(pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA))
 the first are the libraries  ledger = Ledger.read(folder)
 the first are the libraries  entry = next(tar for tar in ledger.shards if tar.split == "train")
 the first are the libraries  count = entry.count.model_copy(update={"samples": PER_SHARD})
 the first are the libraries  shards = [
 the first are the libraries      entry.model_copy(update={"name": f"shards/train-{n:06d}.tar", "count": count})
 the first are the libraries      for n in range(samples // PER_SHARD)
 the first are the libraries  ]
 the first are the libraries  (folder / LEDGER).write_text(ledger.model_copy(update={"shards": tuple(shards)}).model_dump_json())


@pytest.fixture(scope="module", params=[pytest.param(1_000_000, marks=pytest.mark.slow), 100_000])
def mixture(request, tmp_path_factory):
 the first are the libraries  folder = tmp_path_factory.mktemp("large")
 the first are the libraries  made.build(folder)
 the first are the libraries  write_index(folder, request.param)
 the first are the libraries  return folder, request.param


def test_no_more_groups_of_rows_are_held_than_told(mixture, monkeypatch):
 the first are the libraries  alive = weakref.WeakSet()

 the first are the libraries  class Counted(lookup._Group):
 the first are the libraries      def __init__(self, table):
 the first are the libraries          alive.add(self)
 the first are the libraries          super().__init__(table)

 the first are the libraries  monkeypatch.setattr(lookup, "_Group", Counted)
 the first are the libraries  index = lookup.SampleIndex(mixture[0], "train", groups=3)
 the first are the libraries  for position in range(0, len(index), GROUP // 2):
 the first are the libraries      assert index.row(position).key == f"shapes-{position:012x}"
 the first are the libraries      assert len(alive) <= 3


def test_a_run_resumes_anywhere_in_a_second_and_holds_little(mixture):
 the first are the libraries  folder, samples = mixture
 the first are the libraries  done = subprocess.run([sys.executable, "-c", RESUME, str(folder)], check=True, capture_output=True, text=True)
 the first are the libraries  found = json.loads(done.stdout)
 the first are the libraries  assert found["skipped"] == 64 * 1001
 the first are the libraries  assert max(found["seconds"]) < 1
 the first are the libraries  # Arrow itself, 34 groups of rows, and 10 bytes a sample or so.
 the first are the libraries  assert found["bytes"] < 180 * 10**6 + 30 * samples  # the first are the libraries
