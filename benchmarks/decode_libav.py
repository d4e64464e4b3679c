"""Decoders by PyAV: ours, the plain loop that users write, and the floor that no loop can undercut."""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from decode_job import Found, Job, Peer, padded

HIDE = ("libdav1d", "libaom-av1", "av1", "vp9", "libvpx-vp9")


class Ours(Peer):
    """`Film` of this project."""

    def __init__(self) -> None:
        from pipeline.decode.film import Film
        from pipeline.decode.media import open_plain
        from schemas.media import DecodeSpec, Preprocessing

        self._film, self._open, self._spec, self._preprocessing = Film, open_plain, DecodeSpec, Preprocessing

    def prepare(self, job: Job) -> None:
        """Records only."""
        grey = (0.5, 0.5, 0.5)
        self._squares = [self._preprocessing(size=side, mean=grey, std=grey) for side in job.sides]
        self._bounds = self._spec(fps=str(job.fps))

    def run(self, job: Job) -> Found:
        """Opens, shows, pads."""
        found, arrays = Found(), []
        path = Path(job.path)
        with self._open(str(path.parent), path.name) as file, self._film(file, self._bounds) as film:
            for shown in film.shown_at(job.times_ns):
                arrays.append([shown.picture.square(square) for square in self._squares])
                found.pts_ns.append(shown.pts_ns)
        found.frames = len(arrays)
        return found


class Scaling:
    """Pictures of one size, made as `pipeline.decode.picture` makes them: equal pictures for equal work."""

    def __init__(self) -> None:
        from av.video.reformatter import Interpolation as Flag
        from av.video.reformatter import VideoReformatter

        self._to_size, self._to_rgb = VideoReformatter(), VideoReformatter()
        flags = Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.BITEXACT
        self._options = {"interpolation": flags, "threads": 1}

    def __call__(self, frame: Any, width: int, height: int) -> Any:
        """`[height, width, 3] uint8`."""
        sized = self._to_size.reformat(frame, width, height, "yuv444p10le", **self._options)
        return self._to_rgb.reformat(sized, width, height, "rgb24", **self._options).to_ndarray()


class CoarseScaling:
    """In one step with libswscale's default flags: neighbours share their chroma."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._scaler = VideoReformatter()

    def __call__(self, frame: Any, width: int, height: int) -> Any:
        """`[height, width, 3] uint8`."""
        return self._scaler.reformat(frame, width, height, "rgb24").to_ndarray()


class Pyav(Peer):
    """The plain loop: decode everything, take the last frame with pts <= t, scale it as ours is scaled."""

    threads = 1
    scaling: type[Scaling | CoarseScaling] = Scaling

    def __init__(self) -> None:
        import av

        self._av = av
        self._scalers = [self.scaling(), self.scaling()]

    def run(self, job: Job) -> Found:
        """Opens, decodes, picks."""
        found, arrays = Found(), []
        with self._av.open(job.path) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "AUTO", self.threads
            stamp = "dts" if container.format.name == "avi" else "pts"
            tick_ns = (stream.time_base or Fraction(1, 10**9)) * 10**9
            for frame in self._shown(container.decode(stream), job, stamp, tick_ns):
                arrays.append(
                    [
                        padded(scaler(frame, *size), side)
                        for scaler, size, side in zip(self._scalers, job.sizes, job.sides, strict=True)
                    ]
                )
                found.pts_ns.append(int(getattr(frame, stamp) * tick_ns) - job.origin_ns)
        found.frames = len(arrays)
        return found

    @staticmethod
    def _shown(frames: Iterator[Any], job: Job, stamp: str, tick_ns: Any) -> Iterator[Any]:
        times = iter(job.times_ns)
        t_ns = next(times)
        before = None
        ratio = tick_ns.numerator, tick_ns.denominator
        for frame in frames:
            pts_ns = getattr(frame, stamp) * ratio[0] // ratio[1] - job.origin_ns
            while before is not None and pts_ns > t_ns:
                yield before
                t_ns = next(times, -1)
                if t_ns < 0:
                    return
            before = frame
        yield from (before for _ in (t_ns, *times))


class PyavAuto(Pyav):
    """With as many threads as libav likes."""

    threads = 0


class PyavCoarse(Pyav):
    """Cheaper pictures."""

    scaling = CoarseScaling


class Floor(Peer):
    """A bare loop that is told beforehand which packets must be decoded, and decodes those alone.

    Must: what another frame refers to, and the frames of the grid, up to the last of these in each GOP (in
    the order of decoding); nothing of a GOP without one. One scaling a size, and no padding.
    """

    def __init__(self) -> None:
        import av

        self._av = av
        self._scalers = [Scaling(), Scaling()]

    def prepare(self, job: Job) -> None:
        """Which packets (by place in the file) are sent, and before which the decoder is drained."""
        with self._av.open(job.path) as container:
            stream = container.streams.video[0]
            self._tick_ns = (stream.time_base or Fraction(1, 10**9)) * 10**9
            packets = [(p.pts or 0, p.is_keyframe, p.is_discard) for p in container.demux(stream) if p.size]
        with self._av.open(job.path) as container:
            stream = container.streams.video[0]
            # Packets of AV1 and VP9 may hold a hidden frame that others refer to beside the one that is shown.
            stream.codec_context.skip_frame = "DEFAULT" if stream.codec_context.name in HIDE else "NONREF"
            referred = {frame.pts for frame in container.decode(stream)}
        self._targets = self._shown_pts([pts for pts, _, _ in packets], job)
        self._sent: dict[int, bool] = {}
        keys = [i for i, (_, key, _) in enumerate(packets) if key]
        for first, end in zip(keys, [*keys[1:], len(packets)], strict=True):
            asked = [i for i in range(first, end) if packets[i][0] in self._targets]
            for i in range(first, asked[-1] + 1) if asked else ():
                pts, _, hidden = packets[i]
                if pts in referred or hidden or i in asked:
                    self._sent[i] = i == first > 0 and first - 1 not in self._sent
        self._last = max(self._sent)

    def _shown_pts(self, stamps: list[int], job: Job) -> dict[int, int]:
        """How often the frame of each pts is asked for."""
        stamps = sorted(stamps)
        pts_ns = [int(pts * self._tick_ns) - job.origin_ns for pts in stamps]
        asked = [stamps[bisect_right(pts_ns, t_ns) - 1] for t_ns in job.times_ns]
        return {pts: asked.count(pts) for pts in asked}

    def run(self, job: Job) -> Found:
        """Sends what must be sent."""
        found, arrays = Found(), []
        with self._av.open(job.path) as container:
            stream = container.streams.video[0]
            for frame in self._decoded(container, stream):
                if times := self._targets.get(frame.pts):
                    arrays += times * [
                        [scaler(frame, *size) for scaler, size in zip(self._scalers, job.sizes, strict=True)]
                    ]
                    found.pts_ns += times * [int(frame.pts * self._tick_ns) - job.origin_ns]
        found.frames = len(arrays)
        return found

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        context = stream.codec_context
        context.thread_count = 1
        for place, packet in enumerate(container.demux(stream)):
            drain = self._sent.get(place)
            if drain:
                yield from context.decode(None)
                context.flush_buffers()
            if drain is not None:
                yield from context.decode(packet)
            if place == self._last:
                break
        yield from context.decode(None)
