"""The film zoo: small films of every codec, container and oddity that datasets hold, each under its name.

All show one moving texture, never a flat grey: a frame built on a wrong reference differs from the right one.
"""

import functools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from schemas.rejection import Reason

WIDTH, HEIGHT, RATE, COUNT = 96, 64, 25, 75


@dataclass(frozen=True)
class Recipe:
    """How one film is made.

    Attributes:
        name: The film's name, its suffix included.
        writing: The encoder's and muxer's arguments; a copy of a film's packets where it says `-c copy`.
        source: The film that is read, by name.
        reading: Arguments before the source.
        append: The film whose bytes follow, by name.
        edit: Makes the file's bytes other.
        codec: Its family in tables; empty for those that only differ in their container.
        hierarchical: It has frames that nothing shown refers to, which a sparse decode leaves out.
        refused: Why libav's reader refuses it; None where it must be decoded.
        spliced: Where its parts join, packets seem lost, so frames there may be called damaged.
    """

    name: str
    writing: str
    source: str = "texture.nut"
    reading: str = ""
    append: str = ""
    edit: Callable[[bytes], bytes] | None = None
    codec: str = ""
    hierarchical: bool = False
    refused: Reason | None = None
    spliced: bool = False


X264 = "-c:v libx264 -preset veryfast -g 25"
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:pools=none:frame-threads=1"
AV1 = "-c:v libsvtav1 -preset 10 -crf 35 -svtav1-params lp=1"
VPX = "-deadline good -cpu-used 5 -auto-alt-ref 1 -lag-in-frames 16 -b:v 300k -g 40"
OPEN = ":open-gop=1:bframes=3:b-adapt=0:keyint=15:min-keyint=15"
VARIABLE = "-vf setpts='(N*N/40+N)/25/TB' -fps_mode passthrough"
FRAGMENTS = "-movflags frag_keyframe+empty_moov+default_base_moof"


def _begin_inside_a_packet(data: bytes) -> bytes:
    return data[len(data) // 4 :]


def _without_keyframe_list(data: bytes) -> bytes:
    return data.replace(b"stss", b"free")


RECIPES = (
    # H.264.
    Recipe("b_pyramid.mp4", X264, codec="h264", hierarchical=True),
    Recipe("slow_many_references.mp4", "-c:v libx264 -preset slower -g 30", codec="h264", hierarchical=True),
    Recipe("b_strict_pyramid.mkv", f"{X264} -bf 7 -x264-params b-pyramid=strict:b-adapt=0",
            codec="h264", hierarchical=True),
    Recipe("no_b.mp4", f"{X264} -bf 0", codec="h264"),
    Recipe("one_gop.mkv", f"{X264} -g 250 -sc_threshold 0", codec="h264", hierarchical=True),
    Recipe("open_gop.mp4", f"{X264} -x264-params ref=3{OPEN}", codec="h264", hierarchical=True),
    Recipe("intra_refresh.mp4", f"{X264} -bf 0 -x264-params intra-refresh=1", codec="h264"),
    Recipe("many_slices.mp4", f"{X264} -x264-params slices=4", codec="h264", hierarchical=True),
    Recipe("interlaced.mp4", f"{X264} -flags +ildct+ilme -x264-params tff=1", codec="h264", hierarchical=True),
    Recipe("ten_bit.mkv", f"{X264} -pix_fmt yuv420p10le", codec="h264", hierarchical=True),
    # HEVC.
    Recipe("x265_b_pyramid.mp4", f"{X265}:bframes=4:b-adapt=0:keyint=25", codec="hevc", hierarchical=True),
    Recipe("x265_open_gop.mkv", f"{X265}{OPEN}", codec="hevc", hierarchical=True),
    Recipe("x265_layers.mp4", f"{X265}:temporal-layers=3:bframes=3:b-adapt=0:keyint=25", codec="hevc",
            hierarchical=True),
    # AV1, VP9, VP8.
    Recipe("svt_hierarchical.mp4", f"{AV1} -g 33", codec="av1"),
    Recipe("vp9_alt_ref.webm", f"-c:v libvpx-vp9 {VPX}", codec="vp9"),
    Recipe("vp8_alt_ref.webm", f"-c:v libvpx {VPX} -pass 2", codec="vp8"),
    # MPEG.
    Recipe("mpeg2_b.ts", "-c:v mpeg2video -q:v 4 -g 15 -bf 2", codec="mpeg2", hierarchical=True),
    Recipe("mpeg2_interlaced.mpg", "-c:v mpeg2video -q:v 4 -g 15 -bf 2 -flags +ildct+ilme",
            codec="mpeg2", hierarchical=True),
    Recipe("mpeg1.mpg", "-c:v mpeg1video -q:v 4 -g 12 -bf 2"),
    Recipe("mpeg4_b.mp4", "-c:v mpeg4 -q:v 4 -g 20 -bf 2", codec="mpeg4", hierarchical=True),
    Recipe("mpeg4.avi", "-c:v mpeg4 -q:v 4 -g 20", codec="mpeg4", hierarchical=True),
    Recipe("divx3.avi", "-c:v msmpeg4 -q:v 4 -g 20", hierarchical=True),
    Recipe("mpeg4_b.avi", "-c:v mpeg4 -q:v 4 -g 20 -bf 2", codec="mpeg4"),
    Recipe("xvid_packed.avi", "-c:v libxvid -q:v 4 -g 20 -bf 2", codec="mpeg4"),
    Recipe("h264_in.avi", X264),
    # Every frame by itself, and old ones.
    Recipe("mjpeg.avi", "-c:v mjpeg -q:v 4", codec="mjpeg"),
    Recipe("mjpeg.mov", "-c:v mjpeg -q:v 4", codec="mjpeg"),
    Recipe("prores.mov", "-c:v prores -profile:v 0"),
    Recipe("ffv1.mkv", "-c:v ffv1"),
    Recipe("raw.y4m", "-pix_fmt yuv420p"),
    Recipe("moving.gif", "-r 10"),
    Recipe("moving.apng", "-r 10 -plays 0"),
    Recipe("moving.webp", "-r 10 -c:v libwebp_anim -q:v 60", refused=Reason.NOT_MEDIA),
    Recipe("sorenson.flv", "-c:v flv -q:v 4 -g 20"),
    Recipe("wmv2.asf", "-c:v wmv2 -q:v 4 -g 20"),
    Recipe("theora.ogv", "-c:v libtheora -q:v 6 -g 20"),
    Recipe("h263.3gp", "-c:v h263 -s 128x96 -q:v 4 -g 20"),
    # Containers.
    Recipe("live.mkv", "-c copy -live 1", "b_pyramid.mp4"),
    Recipe("live.flv", "-c copy -flvflags no_duration_filesize", "b_pyramid.mp4"),
    Recipe("plain.ts", "-c copy", "b_pyramid.mp4"),
    Recipe("open_gop.ts", "-c copy", "open_gop.mp4"),
    Recipe("open_gop_in.mkv", "-c copy", "open_gop.mp4"),
    Recipe("x265.ts", "-c copy", "x265_b_pyramid.mp4"),
    Recipe("vp9.ivf", "-c copy", "vp9_alt_ref.webm"),
    Recipe("svt.mkv", "-c copy", "svt_hierarchical.mp4"),
    Recipe("fragmented.mp4", f"-c copy {FRAGMENTS}", "b_pyramid.mp4"),
    Recipe("faststart.mp4", "-c copy -movflags faststart", "b_pyramid.mp4"),
    Recipe("without_keyframe_list.mp4", "-c copy", "mpeg4_b.mp4", edit=_without_keyframe_list),
    Recipe("rotated.mp4", "-c copy", "b_pyramid.mp4", "-display_rotation 90"),
    Recipe("mpeg2.mxf", "-c:v mpeg2video -q:v 4 -g 12 -bf 2"),
    # Times.
    Recipe("late.mkv", "-c copy -output_ts_offset 5", "b_pyramid.mp4"),
    Recipe("negative.mkv", "-c copy -output_ts_offset -1 -avoid_negative_ts disabled", "b_pyramid.mp4",
            refused=Reason.BAD_TIMESTAMPS),
    Recipe("negative.mp4", "-c copy -output_ts_offset -1 -avoid_negative_ts disabled", "b_pyramid.mp4"),
    Recipe("variable.mp4", f"{VARIABLE} {X264}"),
    Recipe("variable.webm", f"{VARIABLE} -c:v libvpx-vp9 {VPX}"),
    Recipe("edit_list.mp4", "-c copy", "b_pyramid.mp4", "-ss 1.33"),
    Recipe("edit_list_open_gop.mp4", "-c copy", "open_gop.mp4", "-ss 0.9"),
    Recipe("cut.mkv", "-c copy", "b_pyramid.mp4", "-ss 1.33"),
    Recipe("cut_inside_gop.mp4", "-c copy -bsf:v noise=drop='lt(n\\,7)'", "b_pyramid.mp4"),
    Recipe("cut_inside_open_gop.mkv", "-c copy -bsf:v noise=drop='lt(n\\,15)'", "open_gop.mp4"),
    Recipe("cut_inside_packet.ts", "-c copy", "b_pyramid.mp4", edit=_begin_inside_a_packet),
    Recipe("frames_lost.mkv", "-c copy -bsf:v noise=drop='eq(mod(n\\,25)\\,9)'", "no_b.mp4"),
    Recipe("late.ts", "-c copy -output_ts_offset 100", "b_pyramid.mp4"),
    Recipe("time_jumps_ahead.ts", "-c copy", "b_pyramid.mp4", append="late.ts", spliced=True),
    Recipe("time_jumps_back.ts", "-c copy", "b_pyramid.mp4", append="plain.ts", refused=Reason.BAD_TIMESTAMPS),
    Recipe("larger.ts", f"{X264} -s 160x96 -output_ts_offset 4"),
    Recipe("size_changes.ts", "-c copy", "b_pyramid.mp4", append="larger.ts", spliced=True),
    Recipe("raw.h264", "-c copy", "b_pyramid.mp4", refused=Reason.NOT_MEDIA),
    Recipe("raw.m4v", "-c copy", "mpeg4_b.mp4"),
    Recipe("raw_in.avi", "-c copy", "raw.h264"),
    # Streams.
    Recipe("cover.mp4", "-i {cover} -map 1 -map 0 -c copy -disposition:0 attached_pic", "b_pyramid.mp4"),
    Recipe("two_films.mkv", "-i {no_b.mp4} -map 0 -map 1 -c copy", "b_pyramid.mp4"),
)  # fmt: skip

ZOO = {recipe.name: recipe for recipe in RECIPES}


def build(folder: Path) -> dict[str, Path]:
    """Renders every film of the zoo into `folder`."""
    films = {"texture.nut": _texture(folder / "texture.nut"), "cover": _cover(folder / "cover.png")}
    for recipe in RECIPES:
        films[recipe.name] = _render(recipe, folder / recipe.name, films)
    return {name: films[name] for name in ZOO}


def texture(number: int) -> np.ndarray:
    """Frame `number`: noise that drifts by odd steps, and a block that crosses it. `[64, 96, 3] uint8`."""
    x, y = (3 * number) % 128, (number * number // 9) % 128
    pixels = np.roll(_noise(), (y, x), (0, 1))[:HEIGHT, :WIDTH].copy()
    left = (5 * number) % (WIDTH - 16)
    pixels[24:40, left : left + 16] = 255 - pixels[24:40, left : left + 16]
    return pixels


@functools.cache
def _noise() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(float)
    fine = np.random.default_rng(1).integers(-24, 24, (128, 128, 3))
    return np.clip(np.kron(coarse, np.ones((4, 4, 1))) + fine, 0, 255).astype(np.uint8)


def _texture(path: Path) -> Path:
    raw = b"".join(texture(number).tobytes() for number in range(COUNT))
    pixels = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r {RATE} -i -"
    _ffmpeg(*pixels.split(), "-pix_fmt", "yuv420p", "-c:v", "rawvideo", str(path), stdin=raw)
    return path


def _cover(path: Path) -> Path:
    raw = texture(999).tobytes()
    pixels = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -i - -frames:v 1"
    _ffmpeg(*pixels.split(), str(path), stdin=raw)
    return path


def _render(recipe: Recipe, path: Path, films: dict[str, Path]) -> Path:
    writing = [
        str(films[word[1:-1]]) if word[0] == "{" else word.replace("'", "") for word in recipe.writing.split()
    ]
    reading = [*recipe.reading.split(), "-i", str(films[recipe.source]), "-an"]
    if "-pass" in writing:  # libvpx makes VP8's hidden frames from the figures of a first pass only
        writing += ["-passlogfile", str(path)]
        _ffmpeg(*reading, *writing, "-pass", "1", "-f", "null", "-")
    _ffmpeg(*reading, *writing, str(path))
    if recipe.append:
        path.write_bytes(path.read_bytes() + films[recipe.append].read_bytes())
    if recipe.edit:
        path.write_bytes(recipe.edit(path.read_bytes()))
    return path


def _ffmpeg(*arguments: str, stdin: bytes | None = None) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg {' '.join(arguments)}: {done.stderr.decode()}")
