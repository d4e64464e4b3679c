"""Headline: how fast the audit scans tars (headers and JSON) beside Python's `tarfile`, and what two workers give.

`tarfile_ratio`: processor seconds of `tarfile` over those of our scan for the same work on the same shards, in
pairs by turns, the order within a pair alternating; the median of the pairs' ratios. The work: each member's header
is read and checked, each JSON member is read and parsed by `json.loads`; arrays are passed over. The floor beside
them is `json.loads` alone, of JSON that lies in memory: no scan that parses it so can be faster.
`two_worker_ratio`: seconds by the clock of the full audit with one worker over those with two, the start of the
processes included. Files lie in the page cache; a disk may be slower.

The shards are generated and written as a build writes them: talk of six turns (a JSON is about 3.5 kB), and random
features on the grids of SigLIP and InternVideo2 pooled by 3 (0.2 to 1.5 MB a member), none for text.

    python benchmarks/audit.py --quick         3,200 samples, 3.9 GB, under 5 minutes
    python benchmarks/audit.py                 6,000 samples, 7.4 GB
    python benchmarks/audit.py --scan          the scan alone, in processor time
    python benchmarks/audit.py --out FILE.md   also writes machine, versions, command and table
"""

import argparse
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic_core import from_json

from pipeline.audit.audit import audit
from pipeline.audit.findings import FindingLog
from pipeline.audit.scan import ShardScan
from pipeline.audit.shard import audit_shard
from pipeline.audit.workers import in_order

Work = Callable[[Path, Sequence[str]], object]
Clock = Callable[[], float]


def by_tarfile(folder: Path, names: Sequence[str]) -> int:
    """Samples, as the standard library reads them."""
    samples = 0
    for name in names:
        with tarfile.open(folder / name, "r:") as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    samples += bool(file and json.loads(file.read()))
    return samples


def by_ours(folder: Path, names: Sequence[str], parse: Callable[[bytes], object] = json.loads) -> int:
    """Samples, as the quick audit reads them before it looks at what they say."""
    samples = 0
    for name in names:
        log = FindingLog()
        for sample in ShardScan(folder, name, log, quick=True):
            samples += bool(parse(sample.json("json")))
        if log.counts:
            raise RuntimeError(f"a sound tar has findings: {log.kept}")
    return samples


def by_ours_and_jiter(folder: Path, names: Sequence[str]) -> int:
    """The same with pydantic's parser, which is the one that the audit's records are read by."""
    return by_ours(folder, names, from_json)


def json_alone(folder: Path, names: Sequence[str]) -> Work:
    """The floor: the same JSON parsed, all of it in memory before the clock runs."""
    scans = (ShardScan(folder, name, FindingLog(), quick=True) for name in names)
    texts = [sample.json("json") for scan in scans for sample in scan]
    return lambda *_: sum(bool(json.loads(text)) for text in texts)


def audited(workers: int, quick: bool = False) -> Work:
    """The audit of it all; raises where it finds anything."""

    def work(folder: Path, _: Sequence[str]) -> int:
        report = audit(folder, workers, quick)
        if not report.ok:
            raise RuntimeError(report.verdict)
        return sum(count.samples for count in report.tables["total"].values())

    return work


def timed(work: Work, folder: Path, names: Sequence[str], samples: int, clock: Clock) -> float:
    """Seconds of that clock. Raises RuntimeError where not all samples were seen."""
    begin = clock()
    seen = work(folder, names)
    seconds = clock() - begin
    if seen != samples:
        raise RuntimeError(f"saw {seen} of {samples} samples")
    return seconds


def start_s() -> float:
    """Seconds in which two workers start, import what an audit imports, and end."""
    begin = time.perf_counter()
    missing = (Path("absent"), None, True, None)
    list(in_order(partial(audit_shard, *missing), ["shards/train-000000.tar", "shards/train-000001.tar"], 2))
    return time.perf_counter() - begin


def spun(processes: int) -> float:
    """Seconds of arithmetic shared by so many processes: the ceiling of workers on this machine as it is now."""
    begin = time.perf_counter()
    code = f"for _ in range({24_000_000 // processes}): pass"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]  # noqa: S603
    for process in running:
        process.wait()
    return time.perf_counter() - begin


def pairs(one: Callable[[], float], other: Callable[[], float], repeats: int) -> list[tuple[float, float]]:
    """Seconds of both, side by side; who is first alternates."""
    found = []
    for number in range(repeats):
        if number % 2:
            second = other()
            found.append((one(), second))
        else:
            first = one()
            found.append((first, other()))
    return found


def main() -> None:
    """Runs, reports; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description="Rate of the audit's scan beside tarfile's, and of two workers.")
    parser.add_argument("--quick", action="store_true", help="fewer samples and repeats")
    parser.add_argument("--scan", action="store_true", help="the scan alone, no audit and no workers")
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    options = parser.parse_args()
    from audit_shards import make_mixture  # not above: workers import this script, and need none of a writer

    samples, repeats = (3_200, 7) if options.quick else (6_000, 11)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards, size = make_mixture(folder, samples)

        def run(work: Work, clock: Clock = time.perf_counter) -> Callable[[], float]:
            return lambda: timed(work, folder, shards, samples, clock)

        def alone(one: Work, other: Work, times: int) -> list[tuple[float, float]]:
            return pairs(run(one, time.process_time), run(other, time.process_time), times)

        for work in (by_tarfile, by_ours):
            run(work)()  # all files are in the page cache, and everything is imported
        found = {
            "tarfile, our scan": alone(by_tarfile, by_ours, 3 * repeats),
            "tarfile, our scan with the audit's JSON parser": alone(by_tarfile, by_ours_and_jiter, repeats),
            "json.loads alone, our scan": alone(json_alone(folder, shards), by_ours, repeats),
        }
        held = f"{samples} samples, {size / 1e9:.2f} GB in {len(shards)} shards"
        result = {"tarfile_ratio": round(ratio(found["tarfile, our scan"]), 2)}
        if options.scan:
            tell(report(found, held, samples, size), result, options.out)
            return
        run(audited(1))()
        found |= {
            "tarfile, quick audit": alone(by_tarfile, audited(1, quick=True), repeats),
            "full audit with 1 worker, with 2": pairs(run(audited(1)), run(audited(2)), repeats),
            "quick audit with 1 worker, with 2": pairs(run(audited(1, True)), run(audited(2, True)), repeats),
        }
        ceiling = ratio(pairs(lambda: spun(1), lambda: spun(2), repeats))
        starts = [start_s() for _ in range(repeats)]
    result["two_worker_ratio"] = round(ratio(found["full audit with 1 worker, with 2"]), 2)
    text = report(found, held, samples, size)
    start = statistics.median(starts)
    text += f"\n\nOf it the start and the end of two workers take {start:.2f} s, whatever the size. "
    text += f"Arithmetic shared by two processes ended {ceiling:.2f} times as fast as by one: this run's ceiling."
    tell(text, result, options.out)


def tell(text: str, result: Mapping[str, float], out: Path | None) -> None:
    """Prints the report, JSON last; writes it too where a file is given."""
    print(f"\n{text}\n\n{json.dumps(result)}")
    if out:
        out.write_text(f"{text}\n\n    {json.dumps(result)}\n")


def ratio(found: Sequence[tuple[float, float]]) -> float:
    """The median of the pairs' ratios."""
    return statistics.median(one / other for one, other in found)


def report(found: Mapping[str, Sequence[tuple[float, float]]], held: str, samples: int, size: int) -> str:
    """Markdown."""
    from decode import machine

    rows = []
    for name, timings in found.items():
        one, other = (statistics.median(each) for each in zip(*timings, strict=True))
        ratios = sorted(one / other for one, other in timings)
        rows.append(
            f"| {name} | {len(timings)} | {one:.3f} | {other:.3f} | {samples / other:,.0f} | "
            f"{size / other / 1e9:.2f} | {ratio(timings):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |"
        )
    return "\n".join(
        (
            "# The audit beside tarfile, and with two workers",
            "",
            machine(),
            f"- Generated: {held}, in the page cache",
            "",
            "| first, second | pairs | first, s | second, s | its samples/s | its GB/s | ratio | range of ratios |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
        )
    )


if __name__ == "__main__":
    main()
