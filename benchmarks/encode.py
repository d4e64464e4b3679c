"""Headline: the share of the device's own matmul rate that each full-size encoder reaches, and what Ray costs.

`matmul_share_*`: the encoder's floating-point operations a second (torch's FlopCounterMode counts them) over those
of a square matrix product on the same device, in the same precision and run: the ceiling. Weights are random; they
cost as much as learned ones.
`ray_over_bare`: throughput of `RayRunner` (frames from one actor, both encoders in another, rows written) over a
loop in this process that encodes and writes the same batches. By turns; start-up is left out of both.

    python benchmarks/encode.py --quick         5 minutes on two CPU cores
    python benchmarks/encode.py                 more batches; on a GPU in bfloat16
    python benchmarks/encode.py --out FILE.md   also writes machine, versions, command and tables
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from decode import machine

from pipeline.runtime.contract import Keyed, Stage
from schemas.arrays import ClipTimes, Frames, FramesMeta
from schemas.encoders import IMAGE_SIZES

ENCODERS = ("siglip", "internvideo2")
BATCH = 16
"""Samples of a job, as in a build."""


def spec(architecture: str, size: str, precision: str) -> Any:
    """A seeded random encoder."""
    from schemas.encoders import EncoderSpec

    half = (0.5, 0.5, 0.5)
    preprocessing = {"size": IMAGE_SIZES[architecture, size], "mean": half, "std": half}
    fields = {"architecture": architecture, "size": size, "precision": precision, "preprocessing": preprocessing}
    return EncoderSpec.model_validate(fields | {"weights": "random"})


class Feed(Stage[FramesMeta, Frames]):
    """In place of decoding: frames of noise, made before the clock runs."""

    name, version = "decode", 1

    def __init__(self, clips: int, size: str) -> None:
        sides = {name: IMAGE_SIZES[name, size] for name in ENCODERS}
        self._shapes = {name: (clips, 4, side, side, 3) for name, side in sides.items()}
        self._clips = clips

    def setup(self) -> None:
        """Draws the noise."""
        dice = np.random.default_rng(0)
        self._pixels = {n: dice.integers(0, 256, shape, dtype=np.uint8) for n, shape in self._shapes.items()}

    def process(self, batch: Sequence[FramesMeta]) -> list[Frames]:
        """The same pixels for every sample, but each sample travels with its own."""
        times = ClipTimes(start_ns=0, exclusive_end_ns=4, t_ns=(0, 1, 2, 3), pts_ns=(0, 1, 2, 3))
        return [
            Frames(
                FramesMeta(key=meta.key, clips=(times,) * self._clips),
                {name: pixels.copy() for name, pixels in self._pixels.items()},
            )
            for meta in batch
        ]


@dataclass(frozen=True)
class Share:
    """What one encoder does on one device."""

    name: str
    clips_s: float
    flop_a_clip: float
    matmul_flop_s: float

    @property
    def share(self) -> float:
        """Of the matmul rate."""
        return self.clips_s * self.flop_a_clip / self.matmul_flop_s


def timed(work: Callable[[], object]) -> float:
    """Seconds until the device is done."""
    import torch

    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def matmul_flop_s(device: Any, precision: str) -> float:
    """Best rate of a square matrix product, floating-point operations a second."""
    import torch

    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    timed(lambda: a @ b)
    return 2 * side**3 / min(timed(lambda: a @ b) for _ in range(10))


def share_of(architecture: str, precision: str, batches: int, clips_at_once: int, repeats: int) -> Share:
    """Throughput of the engine alone, at full size, clips in memory; on a CPU by one thread, as in a build."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pipeline.features.encoder import build_encoder
    from pipeline.features.engine import Engine

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = build_encoder(architecture, spec(architecture, "full", precision))
    engine = Engine(encoder, device, clips_at_once)
    side = encoder.tower.image_size
    shape = (batches * engine.clips_at_once, 4, side, side, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if device.type == "cuda":
        engine.encode([clips[: engine.clips_at_once]])
    seconds = statistics.median(timed(lambda: engine.encode([clips])) for _ in range(repeats))
    ceiling = matmul_flop_s(device, precision)
    encoder.to("meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.empty((1, *shape[1:]), dtype=torch.uint8, device="meta"))
    return Share(architecture, len(clips) / seconds, float(counter.get_total_flops()), ceiling)


def stages(size: str, precision: str, clips: int) -> tuple[Stage[Any, Any], ...]:
    """Feed, then both encoders."""
    from pipeline.features.stage import Encode

    return Feed(clips, size), Encode({name: spec(name, size, precision) for name in ENCODERS})


def ray_seconds(chain: Sequence[Stage[Any, Any]], batches: int, folder: Path) -> float:
    """Between a batch's end and the next one's, on average, after the first two, which start cold."""
    from pipeline.runtime.local import Job
    from pipeline.runtime.ray import RayRunner

    jobs = [Job(batch, folder / f"{i}.arrow") for i, batch in enumerate(inputs(batches))]
    with RayRunner(workers=1, gpu_workers=1) as runner:
        ends = []
        for done in runner.run(chain, jobs):
            ends.append(time.perf_counter())
            done.attempt.unlink()
    return (ends[-1] - ends[1]) / (len(ends) - 2)


def bare_seconds(chain: Sequence[Stage[Any, Any]], batches: int, folder: Path) -> float:
    """A batch's, on average, after the first two; the frames are there before the clock runs."""
    from pipeline.runtime.rows import write_rows

    feed, encode = chain
    spent = []
    for stage in chain:
        stage.setup()
    for batch in inputs(batches):
        frames = feed.process(batch)
        spent.append(timed(lambda frames=frames: write_rows(folder / "bare.arrow", encode.process(frames))))  # type: ignore[misc]
    for stage in chain:
        stage.close()
    return statistics.fmean(spent[2:])


def inputs(batches: int) -> list[tuple[Keyed, ...]]:
    """Records that only have a key."""
    return [tuple(FramesMeta(key=f"k{b}-{i}") for i in range(BATCH)) for b in range(batches)]


def main() -> None:
    """Runs, reports; the last line printed is JSON."""
    parser = argparse.ArgumentParser(
        description="Rate of the encoders beside the device's matmul rate; Ray's cost."
    )
    parser.add_argument("--quick", action="store_true", help="fewer batches")
    parser.add_argument("--clips-at-once", type=int, default=32, help="clips a batch on a GPU")
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    options = parser.parse_args()
    import torch

    on_gpu = torch.cuda.is_available()
    device, precision = (torch.cuda.get_device_name(), "bfloat16") if on_gpu else ("CPU, one thread", "float32")
    torch.set_num_threads(1)
    batches = 2 if on_gpu else 1
    repeats = 1 if options.quick else 5
    shares = [share_of(name, precision, batches, options.clips_at_once, repeats) for name in ENCODERS]
    size, clips = ("full", 8) if on_gpu else ("tiny", 3)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3 if options.quick else 7):
            chain, count = stages(size, precision, clips), 12 if options.quick else 30
            bare = bare_seconds(chain, count, Path(folder))
            ratios.append(bare / ray_seconds(chain, count, Path(folder)))
    text = report(
        shares, ratios, f"{device}, {precision}", f"{size} encoders, {BATCH} samples of {clips} clips a batch"
    )
    result = {"ray_over_bare": round(statistics.median(ratios), 3)}
    kind = "matmul_share" if on_gpu else "matmul_share_cpu"
    result |= {f"{kind}_{share.name}": round(share.share, 3) for share in shares}
    print(f"\n{text}\n\n{json.dumps(result)}")
    if options.out:
        options.out.write_text(f"{text}\n\n    {json.dumps(result)}\n")


def report(shares: Sequence[Share], ratios: Sequence[float], device: str, work: str) -> str:
    """Markdown."""
    rows = [
        f"| {s.name} | {s.clips_s:.3f} | {4 * s.clips_s:.3f} | {s.flop_a_clip / 1e12:.3f} | "
        f"{s.matmul_flop_s / 1e12:.3f} | {s.share:.3f} |"
        for s in shares
    ]
    return "\n".join(
        (
            "# Encoders at full size, and Ray beside a bare loop",
            "",
            machine(),
            f"- torch {version('torch')}, ray {version('ray')}; device: {device}",
            "",
            "| encoder | clips/s | images/s | TFLOP a clip | matmul TFLOP/s | share |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Ray over the bare loop, {work}: {', '.join(f'{ratio:.3f}' for ratio in ratios)}",
        )
    )


if __name__ == "__main__":
    main()
