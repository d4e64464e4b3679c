"""Headline: seconds to open a complete request cache and look 100,000 replies up.

A cache is filled as workers fill it, 256 replies a commit, with replies of 1.5 kB of random words, and
compacted. Then, each in a process of its own: it is opened, and 100,000 addresses that were put are looked up with
their texts: in one call in random order, and in calls of 64 in the order of the writing, as a run that is begun
again does. `cpu_s` is processor time of both. `index` is the index alone, of so many random addresses. What is read
is in the page cache.

    python benchmarks/request_cache.py                 100,000 and 1,000,000 replies; an index of 10,000,000
    python benchmarks/request_cache.py --quick         10,000 replies; an index of 100,000
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.conversations.addresses import AddressIndex
from pipeline.conversations.cache import RequestCache
from pipeline.conversations.engine import Completion, Prompt
from schemas.base import sha256_text

CHARACTERS = 1_500
"""Of a reply."""
LOOKED_UP = 100_000
REPEATS = 3


def address(number: int) -> str:
    """Of reply number `number`."""
    return sha256_text(str(number))


def fill(folder: Path, count: int) -> dict[str, float]:
    """Puts `count` replies, 256 a commit, and compacts. Returns seconds of each, and what was written."""
    cache, rng = RequestCache(folder), random.Random(0)
    words = [sha256_text(str(n))[: rng.randint(2, 9)] for n in range(20_000)]
    pool = " ".join(rng.choices(words, k=3_000_000))
    prompt = Prompt.model_construct(model_sha256="0" * 64, seed=1)
    start = time.perf_counter()
    for number in range(count):
        begin = rng.randrange(len(pool) - CHARACTERS)
        text = pool[begin : begin + CHARACTERS]
        cache.put(
            prompt,
            Completion(key=f"k{number}", address=address(number), text=text, finish="stop", output_tokens=300),
        )
        if number % 256 == 255:
            cache.flush()
    cache.flush()
    filled = time.perf_counter()
    segments = len(list(folder.iterdir()))
    cache.compact()
    files = list(folder.iterdir())
    return {
        "replies": count,
        "fill_s": round(filled - start, 1),
        "segments": segments,
        "compact_s": round(time.perf_counter() - filled, 1),
        "segments_then": len(files),
        "gb": round(sum(path.stat().st_size for path in files) / 1e9, 2),
    }


def look(folder: Path, count: int, is_random: bool) -> dict[str, float]:
    """Opens and looks up."""
    some = min(count, LOOKED_UP)
    wanted = [address(n) for n in (random.Random(1).sample(range(count), some) if is_random else range(some))]
    start, cpu = time.perf_counter(), time.process_time()
    cache = RequestCache(folder)
    opened = time.perf_counter()
    step = some if is_random else 64
    found = [reply for first in range(0, some, step) for reply in cache.get_many(wanted[first : first + step])]
    looked, spent = time.perf_counter(), time.process_time() - cpu
    if [reply and reply.address for reply in found] != wanted:
        raise SystemExit("a reply was not found")
    return {"open_s": opened - start, "look_up_s": looked - opened, "cpu_s": spent, "peak_gb": _peak_gb()}


def index(count: int) -> dict[str, float]:
    """The index alone."""
    rng, built = np.random.default_rng(0), AddressIndex()
    before = _peak_gb()
    start = time.perf_counter()
    for segment, first in enumerate(range(0, count, 32_768)):
        built.add(rng.integers(0, 256, (min(32_768, count - first), 32), np.uint8), segment)
    built.find(np.zeros((1, 32), np.uint8))
    return {"addresses": count, "index_s": time.perf_counter() - start, "index_peak_gb": _peak_gb() - before}


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def apart(*arguments: object) -> dict[str, float]:
    """This script's own answer from a fresh process."""
    told = subprocess.run([sys.executable, __file__, *map(str, arguments)], check=True, capture_output=True)  # noqa: S603
    return dict(json.loads(told.stdout.splitlines()[-1]))


def main() -> None:
    """Prints a line of JSON for each size and way; the last has the headline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--look", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.look:
        folder, count, is_random = chosen.look
        print(json.dumps(look(Path(folder), int(count), is_random == "random")))
        return
    if chosen.index:
        print(json.dumps(index(chosen.index)))
        return
    headline = 0.0
    for count in (10_000,) if chosen.quick else (100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(fill(Path(folder), count)))
            for way in ("random", "in-order"):
                runs = [apart("--look", folder, count, way) for _ in range(REPEATS)]
                medians = {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
                print(json.dumps({"replies": count, "way": way, **medians}))
                headline = headline or medians["open_s"] + medians["look_up_s"]
    print(json.dumps(apart("--index", 100_000 if chosen.quick else 10_000_000)))
    print(json.dumps({"open_and_look_up_100k_s": round(headline, 3)}))


if __name__ == "__main__":
    main()
