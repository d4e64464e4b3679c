"""Headline: CPU seconds to show the frames of a time grid to two encoders, against every decoder that users have.

The ceiling is `floor`: a bare loop that is told beforehand which packets must be decoded. Every peer does the
same job (`decode_peers.py`) on the same films (`decode_footage.py`); each runs by turns with ours (ours, peer,
ours, peer...), and a ratio is the median of the peer's CPU seconds over the median of ours beside it. What a peer
cannot do, or does in part, is listed and is no win. Each peer's frames are held against a full decode.

    python benchmarks/decode.py                     all cells, most telling first, up to --minutes (55)
    python benchmarks/decode.py --quick             the headline's cells and each codec once, in 5 minutes
    python benchmarks/decode.py --out FILE.md       also writes machine, versions, command and tables
    python benchmarks/decode.py --python torchcodec=ENV/bin/python     another environment for a peer
"""

import argparse
import json
import os
import platform
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from decode_footage import CODECS, HARD, Clip, Truth, film, truth
from decode_job import Job
from decode_peers import PEERS
from decode_report import NO_RIVALS, Cell, Pair, results, summary, tables

SIDES = (384, 224)
"""SigLIP's square and InternVideo2's."""

LOOP_S = 0.1
"""A reading of the clock spans at least about as much of our work."""

DEADLINE_S = 60

QUICK_WITHOUT = ("pyav-auto", "torchcodec-scaled")
"""More threads cost more CPU; the headline names neither."""

HEADLINE = (("floor",), ("decord-1", "decord-auto"), ("pyav-1", "pyav-auto"), ("decord-scaled",))
"""Peers that the headline names: of each group the cheapest."""


def cells(quick: bool) -> Iterator[tuple[Clip, float]]:
    """Films and grids, the most telling first."""
    h264 = ("h264", "h264-nonref70")
    yield from ((Clip("bikes", codec, 1080, 10), 2) for codec in h264)
    yield from ((Clip("bikes", codec, 180, 2), fps) for codec in h264 for fps in (2, 0.5))
    yield from ((Clip("bikes", codec, 360, 10), 2) for codec in (*CODECS, *HARD))
    yield from ((Clip(source, "as-is"), 2) for source in ("bunny", "carphone", "bikes"))
    if quick:
        return
    heights, lengths, rates = (1080, 180, 720, 360), (10, 2, 30), (2, 0.5, 4, 1)
    yield from ((Clip("bunny", codec, 1080, 10), 2) for codec in h264)
    yield from ((Clip("bikes", codec, 1080, 30), 2) for codec in h264)
    yield from ((Clip("bikes", codec, height, 10), 2) for height in heights for codec in CODECS)
    yield from ((Clip("bikes", codec, 360, 10), fps) for codec in (*CODECS, *HARD) for fps in rates)
    yield from ((Clip("bikes", codec, 360, seconds), 2) for codec in CODECS for seconds in (2, 30))
    grid = [(height, seconds, fps) for seconds in lengths for fps in rates for height in heights]
    yield from ((Clip("bikes", codec, height, seconds), fps) for height, seconds, fps in grid for codec in h264)


def job_of(path: Path, shown: Truth, fps: float) -> Job:
    """Frames at k / fps while the film lasts, fitted into SIDES."""
    from pipeline.decode.picture import fitted

    step = Fraction(10**9) / Fraction(fps)
    times = tuple(int(k * step) for k in range(ceil(shown.end_ns / step)))
    sizes = tuple(fitted(Fraction(*shown.size), side) for side in SIDES)
    return Job(str(path.resolve()), times, fps, sizes, SIDES, shown.origin_ns)


class Process:
    """A peer's process: started when first asked, killed when late, started again after its death.

    Args:
        name: A key of PEERS.
        python: The interpreter that has the peer's packages.
    """

    def __init__(self, name: str, python: str) -> None:
        self._command = [python, str(Path(__file__).with_name("decode_peers.py")), name]
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._unusable = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._log.close()

    def ask(self, job: Job) -> dict[str, Any]:
        """The answer of `decode_peers.measured`, or `{"error": why}`."""
        if self._process is None and not self._unusable:
            self._start()
        if self._process is None or self._process.stdin is None:
            return {"error": self._unusable}
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _start(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log, "text": True}
        environment = dict(os.environ)
        if self._command[-1] in ("ours", "floor"):  # as `pipeline.runtime.isolated` starts decoding processes
            environment |= {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "268435456"}
            environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        self._process = subprocess.Popen(self._command, env=environment, **pipes)  # type: ignore[call-overload]  # noqa: S603
        self._unusable = self._answer().get("error", "")

    def _answer(self) -> dict[str, Any]:
        """One line within the deadline; else the process is ended and the last words of its log are the error."""
        process = self._process
        assert process is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        if not select.select([process.stdout], [], [], DEADLINE_S)[0]:
            self._end()
            return {"error": f"no answer in {DEADLINE_S} s"}
        line = process.stdout.readline()
        if line:
            return dict(json.loads(line))
        process.wait(DEADLINE_S)  # it has closed its answers: it is on its way out
        self._end()
        self._log.seek(0)
        words = self._log.read().strip().splitlines()[-1:]
        return {"error": f"{words[0] if words else 'no word'} (exit status {process.returncode})"}

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None


def measure(job: Job, processes: Mapping[str, Process], repeats: int, seconds: float) -> dict[str, list[Pair]]:
    """One pair of each peer; of those that count, 3 pairs or more, as fit in `seconds`, at most `repeats`."""
    ours = processes["ours"]
    first = ours.ask(job)
    if "error" in first:
        return {"ours": [(first, first)]}
    job = replace(job, loops=min(20, ceil(LOOP_S / first["cpu_s"])))
    pairs = {name: [(ours.ask(job), peer.ask(job))] for name, peer in processes.items() if name != "ours"}
    for name in contenders({name: pair[0][1] for name, pair in pairs.items()}):
        pair_s = sum(answer["wall_s"] for answer in pairs[name][0]) * job.loops
        for _ in range(min(repeats, max(3, int(seconds / pair_s))) - 1):
            pairs[name].append((ours.ask(job), processes[name].ask(job)))
    return pairs


def contenders(answers: Mapping[str, dict[str, Any]]) -> list[str]:
    """Whose pairs are repeated: what the headline names, and all near the cheapest rival."""
    cpu = {name: answer["cpu_s"] for name, answer in answers.items() if "cpu_s" in answer}
    named = {min((n for n in cpu if n in names), key=cpu.__getitem__, default="") for names in HEADLINE}
    near = 1.15 * min((s for name, s in cpu.items() if name not in NO_RIVALS), default=0)
    return [name for name in cpu if name in named or (cpu[name] < near and name not in NO_RIVALS)]


def measured(options: argparse.Namespace, processes: Mapping[str, Process]) -> list[Cell]:
    """All cells that fit into the time."""
    done: dict[tuple[Clip, float], Cell] = {}
    truths: dict[Clip, Truth] = {}
    until = time.monotonic() + 60 * options.minutes
    for clip, fps in cells(options.quick):
        if (clip, fps) in done or options.only not in clip.name:
            continue
        if time.monotonic() > until:
            print("out of time: cells are missing from", clip.name)
            break
        path = film(clip, options.films)
        shown = truths[clip] = truths.get(clip) or truth(path)
        job = job_of(path, shown, fps)
        pairs = measure(job, processes, options.repeats, 0 if options.quick else 6)
        found = results(pairs, job.times_ns, shown)
        done[clip, fps] = cell = Cell(clip.name, clip.kind, clip.height, fps, len(job.times_ns), shown, found)
        print(line(cell), flush=True)
    return list(done.values())


def line(cell: Cell) -> str:
    """One cell while the run goes on."""
    parts = [f"{name} {r.ratio:.2f}" if r.ratio else f"{name} -" for name, r in cell.results.items()]
    ours = cell.results["ours"]
    spent = ours.note if ours.cpu_s is None else f"{ours.cpu_s * 1e3:.1f} ms"
    return f"{cell.name:<32}{spent:>12}  {'  '.join(parts)}"


def machine() -> str:
    """What the figures hold for, as Markdown."""
    model = next((row.split(":")[1].strip() for row in _cpuinfo() if row.startswith("model name")), "?")
    packages = ("av", "decord", "torchcodec", "opencv-python-headless", "imageio-ffmpeg", "numpy")
    return "\n".join(
        (
            f"- Command: `python {' '.join(sys.argv)}`",
            f"- Machine: {model}, {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f} at the end",
            f"- Date: {time.strftime('%Y-%m-%d')}; Python {platform.python_version()}",
            f"- Versions: {', '.join(f'{name} {_version(name)}' for name in packages)}",
        )
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def main() -> None:
    """Runs, reports; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description="CPU seconds of decoding at a time grid, against every decoder.")
    parser.add_argument("--quick", action="store_true", help="the headline's cells and each codec once")
    parser.add_argument("--minutes", type=float, default=55, help="start no cell after this")
    parser.add_argument("--repeats", type=int, default=7, help="pairs of a peer in a cell, at most")
    parser.add_argument("--only", default="", help="films whose names hold this")
    parser.add_argument("--films", type=Path, default=Path("build/bench-films"), help="where films are kept")
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    parser.add_argument(
        "--python", action="append", default=[], metavar="FAMILY=PATH", help="environment of a peer"
    )
    options = parser.parse_args()
    pythons = dict(choice.split("=", 1) for choice in options.python)
    names = [name for name in PEERS if not (options.quick and name in QUICK_WITHOUT)]
    processes = {name: Process(name, pythons.get(name.partition("-")[0], sys.executable)) for name in names}
    with ExitStack() as stack:
        for process in processes.values():
            stack.enter_context(process)
        done = measured(options, processes)
    headline = json.dumps(summary(done))
    text = f"# Decoding at a time grid, against other decoders\n\n{machine()}\n\n{tables(done)}"
    print(f"\n{text}\n\n{headline}")
    if options.out:
        options.out.write_text(f"{text}\n\n    {headline}\n")


if __name__ == "__main__":
    main()
