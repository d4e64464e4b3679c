"""Headline: how fast shards are written and read, beside a plain copy, webdataset, Megatron-Energon and Streaming.

`write_over_copy`: see shards_write.py; its ceiling is 1, a sequential copy of the same bytes.
`read_over_*`: seconds of a peer's epoch over ours, pair by pair in turns, the median of the pairs' ratios; one
process each, no shuffling, files in the page cache for all of them. Each sample's JSON becomes a dict and its
arrays NumPy's; before anything is timed, a digest of all contents must be equal. The floor beside them reads the
same files whole, and decodes nothing. More tables, in the same way: shuffled, shuffled with two workers, and from
an S3 server on the loopback. Peers read the very tars, but for Streaming, whose MDS files hold the same samples.
`resume_seconds`: from nothing but an interpreter to the first batch at 1, 50 or 99 % of an epoch; ours, the worst.

The samples are text, images, sets of images and films, with arrays of SigLIP's and InternVideo2's shapes, float16.

    python benchmarks/shards.py                400 samples, about 0.5 GB; about 10 minutes
    python benchmarks/shards.py --samples 40 --rounds 1 --peers webdataset
    python benchmarks/shards.py --out FILE.md  also writes machine, versions, command and tables
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from audit_shards import make_mixture
from shards_environments import ENERGON, STREAMING
from shards_report import Found, Table, report
from shards_store import serving, settings
from shards_write import measure

from schemas.recipe import ShardsSpec

PEERS = ("webdataset", "energon", "streaming")
OWN = {"energon": ENERGON, "streaming": STREAMING}
BATCH, SHARDS = 8, 16
RESUMED_BATCH = 4
"""So that 1 % of 400 samples is a whole batch."""
PLACES = (0.01, 0.5, 0.99)
_HERE = Path(__file__).parent


class Process:
    """A reader's process, by the protocol of shards_readers.py. A context manager."""

    def __init__(self, name: str, python: Path, environment: Mapping[str, str]) -> None:
        paths = os.pathsep.join([str(_HERE.parent), str(_HERE)])
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603
            [str(python), str(_HERE / "shards_readers.py"), name],
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self._answer()

    def ask(self, **job: Any) -> dict[str, Any]:
        """Its answer. Raises RuntimeError where it failed."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in found:
            raise RuntimeError(found["error"])
        return found

    def _last_words(self) -> str:
        self._log.seek(0)
        return " ".join(self._log.read()[-300:].split()) or "ended without a word"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


class Readers:
    """Ours and the peers', and what went wrong with those that failed."""

    def __init__(self, names: Sequence[str], environment: Mapping[str, str], stack: ExitStack) -> None:
        self.failed: dict[str, str] = {}
        self._processes: dict[str, Process] = {}
        for name in ("ours", *names):
            try:
                python = OWN[name].python() if name in OWN else Path(sys.executable)
                self._processes[name] = stack.enter_context(Process(name, python, environment))
            except (subprocess.CalledProcessError, RuntimeError) as error:
                self._fail(name, error)

    def peers(self) -> list[str]:
        """Those that have not failed."""
        return [name for name in self._processes if name != "ours" and name not in self.failed]

    def ask(self, name: str, **job: Any) -> dict[str, Any]:
        """The answer of one. Raises RuntimeError where it failed."""
        return self._processes[name].ask(**job)

    def all_but_failing(self, **job: Any) -> dict[str, dict[str, Any]]:
        """Answers of ours and of the peers. A peer that fails is out from then on."""
        found = {"ours": self.ask("ours", **job)}
        for name in self.peers():
            try:
                found[name] = self.ask(name, **job)
            except RuntimeError as error:
                self._fail(name, error)
        return found

    def pairs(self, rounds: int, **job: Any) -> dict[str, list[Found]]:
        """(ours, peer) by peer, in turns; who is first alternates."""
        found: dict[str, list[Found]] = {name: [] for name in self.peers()}
        for number in range(rounds):
            for name in self.peers():
                try:
                    order = ("ours", name) if number % 2 else (name, "ours")
                    told = {each: self.ask(each, **job) for each in order}
                    found[name].append((told["ours"], told[name]))
                except RuntimeError as error:
                    self._fail(name, error)
        return {name: pairs for name, pairs in found.items() if pairs}

    def _fail(self, name: str, error: Exception) -> None:
        if name == "ours":
            raise error
        self.failed[name] = str(error)


def check_equal(answers: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises RuntimeError where two readers did not see the same."""
    if len({json.dumps(answer, sort_keys=True) for answer in answers.values()}) != 1:
        raise RuntimeError(f"the readers' contents differ: {answers}")


def floor(tars: Sequence[str]) -> float:
    """Seconds to read all files whole, into one buffer."""
    buffer = bytearray(1 << 20)
    begin = time.perf_counter()
    for tar in tars:
        with Path(tar).open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - begin


def local_tables(readers: Readers, job: Mapping[str, Any], rounds: int) -> list[Table]:
    """In order; shuffled; shuffled by two workers."""
    kinds = (("in order", False, 0), ("shuffled", True, 0), ("shuffled, 2 workers", True, 2))
    return [
        Table(name, readers.pairs(rounds, work="read", **{**job, "shuffle": shuffle, "workers": workers}))
        for name, shuffle, workers in kinds
    ]


def place_of(share: float, samples: int) -> int:
    """Samples done at that share of an epoch: whole batches, at least one, and one short of all at most."""
    batches = round(samples * share / RESUMED_BATCH)
    return RESUMED_BATCH * min(max(batches, 1), (samples - 1) // RESUMED_BATCH)


def resumes(readers: Readers, job: Mapping[str, Any], samples: int, rounds: int) -> dict[str, list[float]]:
    """Median seconds at each of PLACES, by reader. Raises RuntimeError where two go on at different samples."""
    found: dict[str, list[float]] = {}
    for share in PLACES:
        done = place_of(share, samples)
        seconds: dict[str, list[float]] = {}
        for _ in range(rounds):
            answers = readers.all_but_failing(work="resume", done=done, **{**job, "batch": RESUMED_BATCH})
            check_equal({name: {"key": told["key"]} for name, told in answers.items()})
            for name, told in answers.items():
                seconds.setdefault(name, []).append(told["seconds"])
        for name, each in seconds.items():
            found.setdefault(name, []).append(statistics.median(each))
    return found


def convert(tars: Sequence[str], folder: Path) -> None:
    """Writes the same samples as Streaming reads them. Raises CalledProcessError."""
    command = [STREAMING.python(), _HERE / "shards_reader_streaming.py", *tars, folder]
    paths = os.pathsep.join([str(_HERE.parent), str(_HERE)])
    subprocess.run(list(map(str, command)), env={**os.environ, "PYTHONPATH": paths}, check=True)  # noqa: S603


def run(root: Path, samples: int, rounds: int, peers: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The report and the figures of the last line."""
    # As many bytes as shards_write.py takes by itself: of few, the end of a write is most of it.
    # The disk's pace changes by a third from pair to pair: that takes more of them than reading does.
    written = measure(root / "write", megabytes=max(1, 3 * samples), pairs=2 * rounds + 1)
    bucket = root / "bucket"
    spec = ShardsSpec(samples_per_shard=max(1, samples // SHARDS))
    names, size = make_mixture(bucket / "mixture", samples, spec)
    tars = [str(bucket / "mixture" / name) for name in names]
    local = {
        "place": str(bucket / "mixture"), "msc": str(bucket / "mixture"), "tars": tars, "mds": str(bucket / "mds"),
        "batch": BATCH, "shuffle": False, "workers": 0,
    }  # fmt: skip
    if "streaming" in peers:
        convert(tars, bucket / "mds")
    with ExitStack() as stack:
        readers = Readers(peers, {}, stack)
        check_equal(readers.all_but_failing(work="digest", **local))
        floors = [floor(tars) for _ in range(rounds)]
        tables = local_tables(readers, local, rounds)
        resumed = resumes(readers, local, samples, max(1, rounds // 2))
        failed = {f"{name}, local": why for name, why in readers.failed.items()}
    with serving(root) as endpoint, ExitStack() as stack:
        remote = {
            **local,
            "place": "s3://bucket/mixture",
            "msc": "msc://store/mixture",
            "tars": [f"{endpoint}/bucket/mixture/{name}" for name in names],
            "mds": "s3://bucket/mds",
            "cache": str(root),
        }
        readers = Readers(peers, settings(endpoint, "bucket", root), stack)
        check_equal(readers.all_but_failing(work="digest", **remote))
        tables.append(Table("S3, in order", readers.pairs(max(1, rounds // 2), work="read", **remote)))
        failed |= {f"{name}, S3": why for name, why in readers.failed.items()}
    held = f"{samples} samples, {size / 1e6:.0f} MB in {len(tars)} tars, in the page cache"
    return report(held, size, tables, statistics.median(floors), resumed, written, failed), {
        "write_over_copy": written["write_over_copy"],
        **{f"read_over_{name}": tables[0].ratio(name) for name in PEERS},
        "resume_seconds": round(max(resumed["ours"]), 4),
    }


def main() -> None:
    """Runs, reports; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description="Write and read rates of shards beside others.")
    parser.add_argument("--samples", type=int, default=400, help="of the mixture; about 1.2 MB each")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of each comparison")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; a temporary one by default")
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        text, result = run(Path(folder), options.samples, options.rounds, options.peers)
    print(f"\n{text}\n\n{json.dumps(result)}")
    if options.out:
        options.out.write_text(f"{text}\n\n    {json.dumps(result)}\n")


if __name__ == "__main__":
    main()
