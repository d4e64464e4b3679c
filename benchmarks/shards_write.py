"""How fast finished, durable shards are written from part files, against a plain copy of as many bytes."""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipeline.plan.order import interleave
from pipeline.runtime.rows import read_outline, read_row, write_rows
from pipeline.shards.members import Packed
from pipeline.shards.writer import write_mixture
from schemas.arrays import ClipTimes, EncoderProvenance, Features, FeaturesMeta
from schemas.base import sha256_text
from schemas.conversation import Conversation, Role, Turn, text_digest
from schemas.ledger import Account
from schemas.recipe import ShardsSpec
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample, Split

HALF_SECOND_NS = 500_000_000
SHARES = {Modality.TEXT: 14, Modality.IMAGE: 35, Modality.VIDEO: 51}
GRIDS = {"siglip": (9, 1152), "internvideo2": (8, 1408)}
"""Tokens along a side, pooled, and channels of each: float16."""
ENCODERS = tuple(
    EncoderProvenance(
        name=name,
        architecture=name,
        weights="RANDOM seed=0",
        weights_sha256=sha256_text(name),
        preprocessing_sha256=sha256_text("square"),
        layer=-2,
        grid=(4, side, side),
        width=width,
    )
    for name, (side, width) in GRIDS.items()
)
SPEC = ShardsSpec(max_bytes=100_000_000)
A_PART = 16


@dataclass(frozen=True)
class _Whole:
    """Reads one sample's features from its part file."""

    path: Path
    row: int

    def __call__(self) -> Features:
        return cast("Features", read_row(self.path, self.row))


def measure(folder: Path, megabytes: int = 1200, pairs: int = 5, writers: int = 2) -> dict[str, Any]:
    """Rates in bytes a second and the median of their ratios; `folder` is emptied of what was written there."""
    parts = folder / "parts"
    samples = write_parts(parts, megabytes * 10**6)
    rounds = []
    for _ in range(pairs):
        seconds, total = _mixture_seconds(folder / "mixture", parts, samples, writers)
        rounds.append((total / _copy_seconds(parts, folder / "copy", total), total / seconds))
    shutil.rmtree(parts)
    return {
        "write_over_copy": round(statistics.median(written / copied for copied, written in rounds), 3),
        "ratios": [round(written / copied, 3) for copied, written in rounds],
        "copy_bytes_s": round(statistics.median(copied for copied, _ in rounds)),
        "write_bytes_s": round(statistics.median(written for _, written in rounds)),
        "writers": writers,
        "bytes": total,
        "samples": samples,
    }


def write_parts(folder: Path, size_bytes: int) -> int:
    """Part files of samples, talks and features that come to about so many bytes; returns the number of samples."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    number = held = part = 0
    modalities = _modalities()
    while held < size_bytes:
        samples = [_sample(number + at, next(modalities)) for at in range(A_PART)]
        features = [_features(sample, rng) for sample in samples]
        write_rows(folder / f"samples-{part:05d}.arrow", samples)
        write_rows(folder / f"talks-{part:05d}.arrow", [_talk(sample) for sample in samples])
        write_rows(folder / f"features-{part:05d}.arrow", features)
        held += sum(array.nbytes for each in features for array in each.arrays.values())
        number, part = number + A_PART, part + 1
    return number


def _modalities() -> Iterator[Modality]:
    while True:
        yield from interleave(SHARES)


def _mixture_seconds(folder: Path, parts: Path, samples: int, writers: int) -> tuple[float, int]:
    """Seconds, and bytes of the tars."""
    account = Account(
        recipe="bench",
        recipe_sha256=sha256_text("b"),
        fps=Fraction(2),
        shares=SHARES,
        asked=(),
        flows=(),
        rejected={},
    )
    began = time.perf_counter()
    rows = {Split.TRAIN: _packed(parts, samples)}
    ledger = write_mixture(folder, rows, list(GRIDS), SPEC, account, writers=writers)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return seconds, sum(entry.size_bytes for entry in ledger.shards)


def _packed(parts: Path, samples: int) -> Iterator[Packed]:
    for number in range(samples):
        kinds = ("samples", "talks", "features")
        paths = [parts / f"{kind}-{number // A_PART:05d}.arrow" for kind in kinds]
        row = number % A_PART
        sample, talk, outline = (cast("Any", read_outline(path, row)) for path in paths)
        yield Packed(sample, talk, outline, _Whole(paths[-1], row))


def _copy_seconds(parts: Path, target: Path, size_bytes: int) -> float:
    """Of reading and writing so many bytes one after the other into one file, until they are durable."""
    began = time.perf_counter()
    with target.open("wb") as writer:
        for path in sorted(parts.glob("features-*")):
            with path.open("rb") as reader:
                while size_bytes and (data := reader.read(min(1 << 20, size_bytes))):
                    size_bytes -= writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def _sample(number: int, modality: Modality) -> Sample:
    key = f"{modality}-{number:06d}".replace("_", "-")
    media: list[Mapping[str, Any]] = []
    if modality is Modality.IMAGE:
        media = [{"kind": "image", "path": f"{key}.jpg", "sha256": sha256_text(key), "width": 640, "height": 480}]
    elif modality is Modality.VIDEO:
        span = {"duration_ns": _clips(number) * 4 * HALF_SECOND_NS}
        media = [{"kind": "video", "path": f"{key}.mp4", "sha256": sha256_text(key), **span}]
    return Sample(
        key=key,
        source="bench",
        modality=modality,
        category=Category.CAPTIONING,
        media=[MediaRef(**medium) for medium in media],
        annotations=[Caption(text=f"A caption of some words, the one of {key}. " * 6)],
        licence="CC0-1.0",
        annotator=Generator(name="human"),
    )


def _clips(number: int) -> int:
    return 2 + number % 7


def _talk(sample: Sample) -> Conversation:
    turns = [
        (Role.USER, "What is to be seen here?"),
        (Role.ASSISTANT, sample.key + " is what is to be seen. " * 20),
    ] * 2
    return Conversation(
        key=sample.key,
        binding_sha256=sample.binding_sha256(),
        text_sha256=text_digest(sample.key, sample.binding_sha256(), turns),
        turns=[Turn(role=role, content=content) for role, content in turns],
        generator=Generator(name="template"),
    )


def _features(sample: Sample, rng: np.random.Generator) -> Features:
    clips = (
        [_clip(0, at) for at in range(_clips(int(sample.key[-6:])))] if sample.modality is Modality.VIDEO else []
    )
    if sample.modality is Modality.IMAGE:
        clips = [ClipTimes(start_ns=0, exclusive_end_ns=1, t_ns=(0,), pts_ns=(0,))]
    arrays = {}
    for name, (side, width) in GRIDS.items():
        shown = 1 if sample.modality is Modality.IMAGE and name == "siglip" else 4
        arrays[name] = rng.integers(0, 15_000, (len(clips), shown, side, side, width), np.uint16).view(np.float16)
    return Features(FeaturesMeta(key=sample.key, clips=clips, encoders=ENCODERS), arrays, {})


def _clip(medium: int, at: int) -> ClipTimes:
    times = tuple((4 * at + tick) * HALF_SECOND_NS for tick in range(4))
    start, end = times[0], times[0] + 4 * HALF_SECOND_NS
    return ClipTimes(medium=medium, start_ns=start, exclusive_end_ns=end, t_ns=times, pts_ns=times)


def main() -> None:
    """Prints the figures; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1200, help="of part files")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(measure(Path(folder), options.megabytes, options.pairs, options.writers)))


if __name__ == "__main__":
    main()
