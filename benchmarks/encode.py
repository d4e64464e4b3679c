"""Headline: the share of the device's own matmul rate that each full-size encoder reaches, and what Ray costs.

`matmul_share_*`: the encoder's floating-point operations a second (torch's FlopCounterMode counts them) over those
of a square matrix product on the same device, in the same precision and run: the ceiling. Weights are random; they
cost as much as learned ones.
`ray_over_bare`: throughput of `RayRunner` (frames from one actor, both encoders in another, rows written) over a
loop in this process that encodes and writes the same batches, its frames made before the clock runs. In pairs, by
turns; start-up is left out of both. The median of the pairs.
`gpu_busy`: share of the time in which an encoder's device works while real decoding feeds it through Ray; on a CPU
it is `encoder_busy_cpu`, and tells how far one decoder keeps up with one tiny encoder.

    python benchmarks/encode.py --quick         5 minutes on two CPU cores
    python benchmarks/encode.py                 more batches; on a GPU in bfloat16
    python benchmarks/encode.py --compiled      the encoders as compiled graphs
    python benchmarks/encode.py --out FILE.md   also writes machine, versions, command and tables

On a CPU the names of the shares end in `_cpu`, and Ray is shown with tiny encoders.
"""

import argparse
import json
import os
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
from encode_ray import BATCH, Fed, decode_fed, ray_over_bare

from schemas.encoders import IMAGE_SIZES, EncoderSpec

ENCODERS = ("siglip", "internvideo2")


def spec(architecture: str, size: str, precision: str, compiled: bool) -> EncoderSpec:
    """A seeded random encoder."""
    half = (0.5, 0.5, 0.5)
    preprocessing = {"size": IMAGE_SIZES[architecture, size], "mean": half, "std": half}
    fields = {"architecture": architecture, "size": size, "precision": precision, "preprocessing": preprocessing}
    return EncoderSpec.model_validate(fields | {"weights": "random", "compiled": compiled})


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


def share_of(encoder_spec: EncoderSpec, batches: int, clips_at_once: int, repeats: int) -> Share:
    """Throughput of the engine alone, at full size, clips in memory; on a CPU by one thread, as in a build."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pipeline.features.encoder import build_encoder
    from pipeline.features.engine import Engine

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = build_encoder(encoder_spec.architecture, encoder_spec)
    engine = Engine(encoder, device, clips_at_once)
    side = encoder.tower.image_size
    shape = (batches * engine.clips_at_once, 4, side, side, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if device.type == "cuda" or encoder_spec.compiled:
        engine.encode([clips[: engine.clips_at_once]])
    before = matmul_flop_s(device, encoder_spec.precision)
    seconds = statistics.median(timed(lambda: engine.encode([clips])) for _ in range(repeats))
    ceiling = max(before, matmul_flop_s(device, encoder_spec.precision))
    encoder.to("meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.empty((1, *shape[1:]), dtype=torch.uint8, device="meta"))
    return Share(encoder_spec.architecture, len(clips) / seconds, float(counter.get_total_flops()), ceiling)


def main() -> None:
    """Runs, reports; the last line printed is JSON."""
    parser = argparse.ArgumentParser(
        description="Rate of the encoders beside the matmul rate; Ray's cost; how busy decoding keeps them."
    )
    parser.add_argument("--quick", action="store_true", help="fewer batches")
    parser.add_argument("--compiled", action="store_true", help="encoders as compiled graphs")
    parser.add_argument("--clips-at-once", type=int, default=32, help="clips a batch on a GPU")
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    options = parser.parse_args()
    import torch

    on_gpu = torch.cuda.is_available()
    device, precision = (torch.cuda.get_device_name(), "bfloat16") if on_gpu else ("CPU, one thread", "float32")
    torch.set_num_threads(1)
    full = [spec(name, "full", precision, options.compiled) for name in ENCODERS]
    repeats = 1 if options.quick else 5
    shares = [share_of(each, 2 if on_gpu else 1, options.clips_at_once, repeats) for each in full]
    cores = os.cpu_count() or 2
    size, film, decoders = ("full", "bunny", max(1, cores - 1)) if on_gpu else ("tiny", "carphone", 1)
    pair = {name: spec(name, size, precision, options.compiled) for name in ENCODERS}
    with tempfile.TemporaryDirectory() as folder:
        ratios = ray_over_bare(pair, 8, 9 if options.quick else 25, Path(folder))
        fed = decode_fed(pair, film, decoders, options.clips_at_once, 16 if options.quick else 60, Path(folder))
    suffix = "" if on_gpu else "_cpu"
    result = {"ray_over_bare": round(statistics.median(ratios), 3)}
    result |= {f"matmul_share{suffix}_{share.name}": round(share.share, 3) for share in shares}
    result |= {"gpu_busy" if on_gpu else "encoder_busy_cpu": round(fed.busy, 3)}
    work = f"{size} encoders{', compiled' if options.compiled else ''}"
    text = report(shares, ratios, fed, f"{device}, {precision}", work)
    print(f"\n{text}\n\n{json.dumps(result)}")
    if options.out:
        options.out.write_text(f"{text}\n\n    {json.dumps(result)}\n")


def report(shares: Sequence[Share], ratios: Sequence[float], fed: Fed, device: str, work: str) -> str:
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
            f"Ray over the bare loop, {work}, {BATCH} samples of 8 clips a batch: "
            f"{', '.join(f'{ratio:.3f}' for ratio in ratios)}",
            "",
            f"Fed by {fed.decoders} decoding worker(s) ({fed.film}), {work}: {fed.clips_s:.1f} clips/s, "
            f"{fed.images_s:.1f} images/s; the encoder works {fed.busy:.3f} of the time.",
        )
    )


if __name__ == "__main__":
    main()
