"""The decoders that are compared, each by its best documented way on a CPU, each in a process of its own.

    python benchmarks/decode_peers.py NAME

is one such process: a job a line (JSON) on stdin, an answer a line on stdout. All do the same: the frames of a
time grid, each as two RGB squares, both scaled from the decoded frame and padded. CPU seconds are those of the
process with all its threads and children; imports and `prepare` are not counted.
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from decode_job import Found, Job, Peer, padded
from decode_libav import Floor, Ours, Pyav, PyavAuto, PyavCoarse


def squares(cv2: Any, batch: Any, job: Job) -> list[Any]:
    """Both squares of each whole frame, by OpenCV's area filter."""
    return [
        [
            padded(cv2.resize(frame, tuple(size), interpolation=cv2.INTER_AREA), side)
            for size, side in zip(job.sizes, job.sides, strict=True)
        ]
        for frame in batch
    ]


class Decord(Peer):
    """`get_batch` of whole frames at round(t * average fps), then OpenCV's area filter to each size."""

    threads = 1

    def __init__(self) -> None:
        import cv2
        import decord

        cv2.setNumThreads(1)
        self._cv2, self._decord = cv2, decord

    def run(self, job: Job) -> Found:
        """One batch."""
        width, height = self._scaled(job)
        film = self._decord.VideoReader(job.path, width=width, height=height, num_threads=self.threads)
        rate = film.get_avg_fps()
        places = [min(round(t_ns * rate / 1e9), len(film) - 1) for t_ns in job.times_ns]
        batch = film.get_batch(places).asnumpy()
        arrays = self._resized(batch, job)
        return Found(frames=len(arrays), places=places)

    def _scaled(self, job: Job) -> tuple[int, int]:
        return -1, -1

    def _resized(self, batch: Any, job: Job) -> list[Any]:
        return squares(self._cv2, batch, job)


class DecordAuto(Decord):
    """With as many threads as libav likes."""

    threads = 0


class DecordScaled(Decord):
    """Scales by itself, to the first size alone: does less."""

    def _scaled(self, job: Job) -> tuple[int, int]:
        return job.sizes[0]

    def _resized(self, batch: Any, job: Job) -> list[Any]:
        return list(batch)


class Torchcodec(Peer):
    """`get_frames_played_at`, whole frames, one thread, then OpenCV's area filter to each size."""

    seek_mode: Literal["exact", "approximate"] = "exact"

    def __init__(self) -> None:
        import cv2
        from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]

        cv2.setNumThreads(1)
        self._cv2, self._decoder = cv2, VideoDecoder

    def run(self, job: Job) -> Found:
        """One batch."""
        film = self._decoder(
            job.path,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode=self.seek_mode,
            transforms=self._transforms(job),
        )
        batch = film.get_frames_played_at([(t_ns + job.origin_ns) / 1e9 for t_ns in job.times_ns])
        arrays = self._resized(batch.data.numpy(), job)
        times = [round(seconds * 1e9) - job.origin_ns for seconds in batch.pts_seconds.tolist()]
        return Found(frames=len(arrays), pts_ns=times)

    def _transforms(self, job: Job) -> list[Any] | None:
        return None

    def _resized(self, batch: Any, job: Job) -> list[Any]:
        return squares(self._cv2, batch, job)


class TorchcodecApproximate(Torchcodec):
    """Trusts the header's frame rate instead of reading all packets first."""

    seek_mode = "approximate"


class TorchcodecScaled(TorchcodecApproximate):
    """Scales by itself, to the first size alone: does less."""

    def _transforms(self, job: Job) -> list[Any] | None:
        from torchcodec.transforms import Resize  # type: ignore[attr-defined]

        return [Resize(job.sizes[0][::-1])]

    def _resized(self, batch: Any, job: Job) -> list[Any]:
        return list(batch)


class Opencv(Peer):
    """`grab` every frame, `retrieve` those at round(t * fps), one thread; area filter to each size."""

    def __init__(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._cv2 = cv2

    def run(self, job: Job) -> Found:
        """One frame after the other, up to the last one asked for."""
        cv2, found, arrays = self._cv2, Found(), []
        film = cv2.VideoCapture(job.path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        rate, place, picture = film.get(cv2.CAP_PROP_FPS), -1, None
        for wanted in [round(t_ns * rate / 1e9) for t_ns in job.times_ns]:
            fresh = False
            while place < wanted and film.grab():
                place, fresh = place + 1, True
            if fresh:
                picture = film.retrieve()[1]
            if picture is None:
                break
            small = [cv2.resize(picture, tuple(size), interpolation=cv2.INTER_AREA) for size in job.sizes]
            rgb = [cv2.cvtColor(array, cv2.COLOR_BGR2RGB) for array in small]
            arrays.append([padded(array, side) for array, side in zip(rgb, job.sides, strict=True)])
            found.places.append(place)
        film.release()
        found.frames = len(arrays)
        return found


class Ffmpeg(Peer):
    """The command: its `fps` filter, rounding up (the frame shown at t), and one `scale` for each size."""

    def __init__(self) -> None:
        from imageio_ffmpeg import get_ffmpeg_exe

        self._command = [get_ffmpeg_exe(), "-nostdin", "-v", "error", "-threads", "1"]

    def prepare(self, job: Job) -> None:
        """Finds by their checksums which frames the filter lets through, for the command does not tell."""
        chain = f"showinfo,fps={job.fps}:round=up,showinfo"
        command = [self._command[0], "-nostdin", "-hide_banner", "-i", job.path, "-vf", chain, "-f", "null", "-"]
        log = subprocess.run(command, check=True, capture_output=True, text=True).stderr  # noqa: S603
        shown: dict[str, list[str]] = {"0": [], "2": []}
        for line in log.splitlines():
            if "checksum:" in line:
                place = line.partition("showinfo_")[2][:1]
                shown[place].append(line.partition("checksum:")[2][:8])
        self._places: list[int] = []
        for checksum in shown["2"]:  # frames pass in order; equal pictures cannot be told apart
            start = self._places[-1] if self._places else 0
            self._places.append(shown["0"].index(checksum, start))

    def run(self, job: Job) -> Found:
        """Two raw streams, read from two pipes."""
        (w, h), (v, g) = job.sizes
        read, write = os.pipe()
        graph = f"[0:v]fps={job.fps}:round=up,split[a][b];[a]scale={w}:{h}[c];[b]scale={v}:{g}[d]"
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
        command = [*self._command, "-i", job.path, "-filter_complex_threads", "1", "-filter_complex", graph]
        command += ["-map", "[c]", *raw, "pipe:1", "-map", "[d]", *raw, f"pipe:{write}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[write]) as process:  # noqa: S603
            os.close(write)
            small: list[bytes] = []
            with os.fdopen(read, "rb") as pipe:
                reader = threading.Thread(target=lambda: small.append(pipe.read()))
                reader.start()
                large = process.stdout.read() if process.stdout else b""
                reader.join()
        if process.returncode:
            raise RuntimeError(f"ffmpeg ended with {process.returncode}")
        streams = [
            np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)
            for data, (width, height) in zip((large, small[0]), job.sizes, strict=True)
        ]
        squares = [[padded(frame, side) for frame in rgb] for rgb, side in zip(streams, job.sides, strict=True)]
        frames = min(*map(len, squares), len(job.times_ns))
        return Found(frames=frames, places=self._places[:frames])


PEERS: dict[str, type[Peer]] = {
    "ours": Ours,
    "floor": Floor,
    "pyav-1": Pyav,
    "pyav-auto": PyavAuto,
    "pyav-coarse": PyavCoarse,
    "decord-1": Decord,
    "decord-auto": DecordAuto,
    "decord-scaled": DecordScaled,
    "torchcodec-exact": Torchcodec,
    "torchcodec-approx": TorchcodecApproximate,
    "torchcodec-scaled": TorchcodecScaled,
    "opencv": Opencv,
    "ffmpeg": Ffmpeg,
}

DOES_LESS = ("pyav-coarse", "decord-scaled", "torchcodec-scaled")
"""Coarser pictures, or one size, not padded, instead of two: shown, never compared."""


def measured(peer: Peer, job: Job) -> dict[str, Any]:
    """Does the job `loops` times; seconds are those of one."""
    cpu, wall = _cpu_s(), time.monotonic()
    for _ in range(job.loops):
        found = peer.run(job)
    cpu, wall = _cpu_s() - cpu, time.monotonic() - wall
    return {"cpu_s": cpu / job.loops, "wall_s": wall / job.loops, **vars(found)}


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main(name: str = "") -> None:
    """Answers jobs until stdin ends. Any failure ends the process: the other side reads why on stderr."""
    if not name:
        print("benchmarks/decode.py starts one of these for each of", ", ".join(PEERS))
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    peer = PEERS[name]()
    print("{}", file=answers, flush=True)
    prepared: Job | None = None
    for line in sys.stdin:
        job = Job(**json.loads(line))
        if prepared != replace(job, loops=1):
            peer.prepare(job)
            prepared = replace(job, loops=1)
        print(json.dumps(measured(peer, job)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
