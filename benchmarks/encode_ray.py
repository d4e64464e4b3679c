"""Decode and Encode on Ray, timed: beside a bare loop, and how busy real decoding keeps the encoder."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from decode_footage import Clip, film

from pipeline.decode.stage import Decode
from pipeline.features.stage import Encode
from pipeline.runtime.contract import Stage
from pipeline.runtime.local import Done, Job
from pipeline.runtime.ray import RayRunner
from pipeline.runtime.rows import write_rows
from schemas.arrays import ClipTimes, Features, Frames, FramesMeta
from schemas.encoders import IMAGE_SIZES, EncoderSpec
from schemas.media import DecodeSpec
from schemas.rejection import Rejection
from schemas.sample import Caption, Generator, MediaRef, Sample

BATCH = 16
"""Samples of a job, as in a build."""
COLD, COUNTED = 4, 16
"""Batches of a block that are not counted, and that are."""


class Feed(Stage[FramesMeta, Frames]):
    """In place of decoding: frames of noise, made before the clock runs."""

    name, version = "decode", 1

    def __init__(self, clips: int, encoders: Mapping[str, EncoderSpec]) -> None:
        self._clips = clips
        self._sides = {name: IMAGE_SIZES[spec.architecture, spec.size] for name, spec in encoders.items()}

    def setup(self) -> None:
        """Draws the noise."""
        dice = np.random.default_rng(0)
        shapes = {name: (self._clips, 4, side, side, 3) for name, side in self._sides.items()}
        self._pixels = {name: dice.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}

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


def ray_over_bare(encoders: Mapping[str, EncoderSpec], clips: int, pairs: int, folder: Path) -> list[float]:
    """Throughput on Ray over a bare loop's, pair by pair of some seconds each; one works while the other rests."""
    chain = Feed(clips, encoders), Encode(encoders)
    batches = [tuple(FramesMeta(key=f"k{b}-{i}") for i in range(BATCH)) for b in range(pairs * (COLD + COUNTED))]
    jobs = [Job(batch, folder / f"{i}.arrow") for i, batch in enumerate(batches)]
    with RayRunner(workers=1, gpu_workers=1) as runner:
        done: Any = runner.run(chain, jobs)
        bare: Any = _bare((Feed(clips, encoders), Encode(encoders)), batches, folder)
        with closing(done), closing(bare):
            pair = _on_ray(done), bare
            seconds = [[_block_s(each) for each in pair] for _ in range(pairs)]
    return [bare_s / ray_s for ray_s, bare_s in seconds]


def _block_s(ends: Iterator[float]) -> float:
    """Time of `COUNTED` batches, after some that find what was left from before, or start cold."""
    times = list(islice(ends, COLD + COUNTED))
    return sum(times[COLD:])


def _on_ray(done: Iterator[Done]) -> Iterator[float]:
    """Seconds until each batch is there."""
    while True:
        begin = time.perf_counter()
        next(done).attempt.unlink()
        yield time.perf_counter() - begin


def _bare(chain: tuple[Feed, Encode], batches: Sequence[Sequence[FramesMeta]], folder: Path) -> Iterator[float]:
    """Seconds of each batch in a loop that encodes and writes; its frames are there before the clock runs."""
    feed, encode = chain
    for stage in chain:
        stage.setup()
    try:
        for batch in batches:
            frames = feed.process(batch)
            begin = time.perf_counter()
            write_rows(folder / "bare.arrow", encode.process(frames))
            yield time.perf_counter() - begin
    finally:
        for stage in chain:
            stage.close()


class Watched(Encode):
    """Encode, which notes for each batch: when it began and ended, seconds of work on the device, clips, frames.

    On a GPU the seconds lie between two events around each forward, on its own clock; on a CPU they are the
    processor time of the thread that runs it.
    """

    def __init__(self, encoders: Mapping[str, EncoderSpec], log: Path, clips_at_once: int) -> None:
        super().__init__(encoders, clips_at_once=clips_at_once)
        self._log = log

    def setup(self) -> None:
        """As Encode's, with the forwards watched."""
        super().setup()
        self._work: list[Callable[[], float]] = []
        for engine in self._engines.values():
            engine._run = self._watched(engine._run)

    def process(self, batch: Sequence[Frames]) -> list[Features | Rejection]:
        """As Encode's."""
        self._work.clear()
        begin = time.perf_counter()
        outcomes = super().process(batch)
        end = time.perf_counter()
        clips, frames = (sum(each) for each in zip(*(_amount(frames) for frames in batch), strict=True))
        with self._log.open("a") as log:
            log.write(json.dumps([begin, end, sum(work() for work in self._work), clips, frames]) + "\n")
        return outcomes

    def _watched(self, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        import torch

        def on_gpu(frames: Any) -> Any:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            tokens = run(frames)
            end.record()
            self._work.append(lambda: begin.elapsed_time(end) / 1e3)
            return tokens

        def on_cpu(frames: Any) -> Any:
            begin = time.thread_time()
            tokens = run(frames)
            seconds = time.thread_time() - begin
            self._work.append(lambda: seconds)
            return tokens

        return on_gpu if torch.cuda.is_available() else on_cpu


def _amount(frames: Frames) -> tuple[int, int]:
    """Clips, and frames in them."""
    return len(frames.meta.clips), sum(len(clip.t_ns) for clip in frames.meta.clips)


@dataclass(frozen=True)
class Fed:
    """What an encoder does that real decoding feeds."""

    film: str
    decoders: int
    busy: float
    """Share of the time in which the device works."""
    clips_s: float
    images_s: float


def decode_fed(
    encoders: Mapping[str, EncoderSpec], source: str, decoders: int, clips_at_once: int, batches: int, folder: Path
) -> Fed:
    """One encoder on Ray, and `decoders` that decode the same film again and again."""
    shutil.copy(film(Clip(source, "as-is"), folder), folder / "film.mp4")
    preprocessing = {name: spec.preprocessing for name, spec in encoders.items()}
    log = folder / "log"
    chain = Decode(DecodeSpec(), preprocessing, {"s": str(folder)}), Watched(encoders, log, clips_at_once)
    jobs = [Job(tuple(_film(f"k{b}-{i}") for i in range(BATCH)), folder / f"{b}.arrow") for b in range(batches)]
    with RayRunner(workers=decoders, gpu_workers=1) as runner:
        for done in runner.run(chain, jobs):
            done.attempt.unlink()
    noted = [json.loads(line) for line in log.read_text().splitlines()]
    seconds = noted[-1][1] - noted[COLD - 1][1]
    work, clips, frames = (sum(row[column] for row in noted[COLD:]) for column in (2, 3, 4))
    return Fed(source, decoders, work / seconds, clips / seconds, frames / seconds)


def _film(key: str) -> Sample:
    return Sample(
        key=key,
        source="s",
        modality="video",
        category="captioning",
        media=(MediaRef(kind="video", path="film.mp4"),),
        annotations=(Caption(text="A film."),),
        licence="unknown",
        annotator=Generator(name="human"),
    )
