"""Headline: seconds and memory to choose and order four million samples out of eight million candidates.

Candidates are generated in the proportions of recipe apollo-4m, two for each sample that it asks for, and a
heldout split beside them: keys and strata as columns. Then, as a build does: rank all, quotas, choose, choose
again when a fifth of the candidates of one stratum failed, order both splits, and read keys at random positions.
The clock leaves out the generation of the columns; the peak is that of the whole process, one for each size.

`growth_exponent` is the slope of log seconds over log candidates, by least squares: 1 is linear. The ceiling is
`hashing`: a bare loop that computes the same digests, one a candidate and one a sample, and keeps none.

    python benchmarks/plan.py                   0.5M, 1M, 2M, 4M and 8M candidates, three times each; medians
    python benchmarks/plan.py --quick           each once
    python benchmarks/plan.py --out FILE.md     also writes machine, versions, command and table
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from decode import machine

from flows.yaml_file import load
from pipeline.plan.choose import Candidates, choose, rank
from pipeline.plan.order import place
from pipeline.plan.quotas import quotas
from schemas.mixture import MixtureSpec
from schemas.plan import Stratum
from schemas.recipe import Recipe
from schemas.sample import Modality, Split

SIZES = (500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000)
"""Candidates; half of them are chosen."""

HELDOUT = 100
"""One candidate in so many is heldout."""

SEED = 20241213
PLACES = 100_000


@dataclass(frozen=True)
class Cost:
    """Of one size."""

    candidates: int
    samples: int
    rank_s: float
    choose_s: float
    order_s: float
    hashing_s: float
    lookup_us: float
    peak_rss_gb: float

    @property
    def seconds(self) -> float:
        """From columns to both orders."""
        return self.rank_s + self.choose_s + self.order_s


def mixture(candidates: int) -> tuple[MixtureSpec, dict[Stratum, int]]:
    """The shares of apollo-4m over half as many samples, and twice as many candidates as each stratum needs."""
    recipe = load("apollo-4m", Recipe, "recipes", "recipe")
    heldout = candidates // 2 // HELDOUT
    spec = recipe.mixture.model_copy(update={"total": candidates // 2 - heldout, "heldout_total": heldout})
    by_name = {s.name: Modality(s.name.partition("-")[2].replace("-", "_")) for s in recipe.sources}
    train = {Stratum(split=Split.TRAIN, modality=m, source=name): spec.total for name, m in by_name.items()}
    held = {s.model_copy(update={"split": Split.HELDOUT}): heldout for s in train}
    # With plenty of each, the quotas tell how many each stratum needs.
    return spec, {quota.stratum: 2 * quota.samples for quota in quotas(spec, train | held)}


def columns(found: dict[Stratum, int]) -> tuple[pa.Array, np.ndarray]:
    """Keys as sources write them, and stratum codes, in an order that mixes the strata."""
    codes = np.repeat(np.arange(len(found), dtype=np.uint16), list(found.values()))
    np.random.default_rng(0).shuffle(codes)
    names = [f"{stratum.source}-{stratum.split}" for stratum in found]
    parts = [
        pa.array([f"{names[code]}-{begin + i:09d}" for i, code in enumerate(part.tolist())], pa.large_string())
        for begin in range(0, len(codes), 1 << 16)
        for part in (codes[begin : begin + (1 << 16)],)
    ]
    return pa.concat_arrays(parts), codes


def hashing_s(keys: pa.Array, times: float) -> float:
    """Seconds of the digests alone, from those of a part of the keys."""
    part = keys.slice(0, 200_000).cast(pa.large_binary()).to_pylist()
    begin = time.perf_counter()
    for key in part:
        hashlib.blake2b(b"choose:20241213:" + key, digest_size=16).digest()
    return (time.perf_counter() - begin) * times * len(keys) / len(part)


def fifth(candidates: Candidates, stratum: Stratum) -> set[str]:
    """One candidate in five of a stratum, as if their media had failed."""
    return set(candidates.keys_at(candidates.of(stratum)[::5]))


def cost(size: int) -> Cost:
    """Plans one mixture in this process."""
    spec, found = mixture(size)
    keys, codes = columns(found)
    times = [time.perf_counter()]
    candidates = rank(keys, codes, list(found), SEED)
    times.append(time.perf_counter())
    asked = quotas(spec, candidates.counts())
    choose(asked, candidates, set())
    chosen = choose(asked, candidates, fifth(candidates, max(found, key=found.__getitem__)))
    times.append(time.perf_counter())
    orders = [place({s: r for s, r in chosen.items() if s.split is split}, keys, SEED) for split in Split]
    times.append(time.perf_counter())
    positions = np.random.default_rng(1).integers(0, len(orders[0]), PLACES)
    for position in positions.tolist():
        keys[int(orders[0][position])]
    lookup = (time.perf_counter() - times[-1]) / PLACES
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rank_s, choose_s, order_s = np.diff(times).tolist()
    hashed = hashing_s(keys, 1.5)
    samples = sum(map(len, orders))
    if samples != sum(quota.samples for quota in asked):
        raise ValueError(f"{samples} samples were ordered, not what was asked")
    return Cost(len(keys), samples, rank_s, choose_s, order_s, hashed, 1e6 * lookup, peak / 1e9)


def in_a_process(size: int) -> Cost:
    """Of its own, so that its peak is its own."""
    command = [sys.executable, __file__, "--one", str(size)]
    return Cost(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))  # noqa: S603


def median(costs: list[Cost]) -> Cost:
    """The run of median seconds, at the highest peak."""
    middle = sorted(costs, key=lambda each: each.seconds)[len(costs) // 2]
    return Cost(**{**asdict(middle), "peak_rss_gb": max(each.peak_rss_gb for each in costs)})


def growth_exponent(costs: list[Cost]) -> float:
    """Slope of log seconds over log candidates, by least squares."""
    fit = statistics.linear_regression(
        [float(np.log(each.candidates)) for each in costs], [float(np.log(each.seconds)) for each in costs]
    )
    return fit.slope


def report(costs: list[Cost], runs: int) -> str:
    """Markdown."""
    rows = [
        f"| {c.candidates:,} | {c.samples:,} | {c.rank_s:.2f} | {c.choose_s:.2f} | {c.order_s:.2f} "
        f"| {c.seconds:.2f} | {c.hashing_s:.2f} | {c.lookup_us:.1f} | {c.peak_rss_gb:.2f} |"
        for c in costs
    ]
    return "\n".join(
        (
            "# The plan of up to four million samples",
            "",
            machine(),
            f"- pyarrow {version('pyarrow')}; one process a size, one thread; the median of {runs} run(s)",
            "",
            "Strata in the proportions of apollo-4m, seven in each split; half of the candidates are asked for.",
            "",
            "| candidates | chosen | rank s | choose s | order s | all s | hashing s | µs a lookup | peak GB |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
        )
    )


def main() -> None:
    """Runs, reports; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description="Seconds and memory of the plan, by candidates.")
    parser.add_argument("--quick", action="store_true", help="each size once")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asdict(cost(options.one))))
        return
    runs = 1 if options.quick else 3
    costs = [median([in_a_process(size) for _ in range(runs)]) for size in SIZES]
    largest = costs[-1]
    figures = {"seconds": largest.seconds, "peak_rss_gb": largest.peak_rss_gb}
    result = {
        name: round(value, 3) for name, value in (figures | {"growth_exponent": growth_exponent(costs)}).items()
    }
    text = report(costs, runs)
    print(f"\n{text}\n\n{json.dumps(result)}")
    if options.out:
        options.out.write_text(f"{text}\n\n    {json.dumps(result)}\n")


if __name__ == "__main__":
    main()
