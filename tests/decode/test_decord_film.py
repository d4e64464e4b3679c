"""Laws of `DecordFilm`: the frame shown at t is plain PyAV's, and what decord does wrong is refused.

decord runs in a process that can be killed, as it must.
"""

import subprocess
from bisect import bisect_right
from fractions import Fraction

import av
import numpy as np
import pytest
from decode_films import NS, render
from imageio_ffmpeg import get_ffmpeg_exe

from pipeline.decode.decord_film import DecordFilm
from pipeline.decode.media import BadMedia, open_plain
from pipeline.runtime.isolated import Isolated
from schemas.media import DecodeSpec
from schemas.rejection import Reason

FILMS = [
    ("a.mp4", "libx264"), ("b.mkv", "libx264"), ("c.mp4", "libx265"), ("d.mkv", "libx265"), ("e.mp4", "mpeg4"),
    ("f.webm", "libvpx-vp9"),
]  # fmt: skip


def answer(root, name, times_ns, fields):
    """What a `DecordFilm` tells of a film; a reason and its detail where it refuses. Runs in the child."""
    try:
        with open_plain(root, name) as file, DecordFilm(file, DecodeSpec(**fields)) as film:
            size = film.displayed_size()  # the film is asked twice
            shown = list(film.shown_at(times_ns))
            return {
                "duration_ns": film.duration_ns(),
                "size": size,
                "times_ns": film.frame_times_ns(),
                "shown": [(s.pts_ns, s.duration_ns, np.asarray(s.picture.image)) for s in shown],
                "objects": len({id(s) for s in shown}),
            }
    except BadMedia as bad:
        return str(bad.reason), bad.detail


@pytest.fixture(scope="module")
def decord():
    with Isolated("test_decord_film:answer", deadline_s=60, memory_mb=4096) as child:
        yield lambda path, times_ns=(0,), **fields: child.call(str(path.parent), path.name, list(times_ns), fields)


def moving(number):
    y, x = np.mgrid[:48, :64]
    return np.stack([(3 * x + 5 * number) % 256, (4 * y) % 256, (x + y + 3 * number) % 256], -1).astype(np.uint8)


def film(path, codec="libx264", **settings):
    def quiet(stream):
        if codec == "libx265":
            stream.codec_context.options = {"x265-params": "log-level=none", "preset": "ultrafast"}

    return render(path, codec=codec, frame=moving, setup=quiet, **settings)


def rendered(path):
    """[(pts in ns from the first, RGB by libswscale's plain way, which decord takes too)]."""
    with av.open(str(path)) as container:
        frames = [(f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return [(int((pts - frames[0][0]) * NS), pixels) for pts, pixels in frames]


def remuxed(path, *options, name):
    """`path` copied by ffmpeg; `options` come before and, from `--` on, behind the input."""
    cut = options.index("--")
    target = path.with_name(name)
    command = [
        get_ffmpeg_exe(),
        "-v",
        "error",
        *options[:cut],
        "-i",
        path,
        "-c",
        "copy",
        *options[cut + 1 :],
        target,
    ]
    subprocess.run(command, check=True)
    return target


def assert_equal(told, path, times_ns):
    frames = rendered(path)
    starts = [pts for pts, _ in frames]
    assert list(told["times_ns"]) == starts
    for t_ns, (pts_ns, _, pixels) in zip(times_ns, told["shown"], strict=True):
        number = bisect_right(starts, t_ns) - 1
        assert pts_ns == starts[number]
        assert np.abs(pixels.astype(int) - frames[number][1]).max() <= 2


@pytest.mark.parametrize(("name", "codec"), FILMS)
def test_it_shows_what_plain_pyav_shows(name, codec, decord, tmp_path):
    path = film(tmp_path / name, codec)
    times_ns = [0, NS // 10 - 1, NS // 10, NS, NS + 1, int(1.35 * NS), 3 * NS, int(3.99 * NS)]
    told = decord(path, times_ns)
    assert_equal(told, path, times_ns)
    assert (told["duration_ns"], told["size"]) == (4 * NS, (64, 48))
    assert told["objects"] == len({pts for pts, _, _ in told["shown"]})


def test_uneven_times_are_those_of_the_packets(decord, tmp_path):
    ticks = [0, 40, 41, 900, 1000, 1033, 1066, 2500]
    path = film(tmp_path / "a.mkv", count=8, ticks=ticks)
    assert_equal(decord(path, [0, 899_999_999, 900_000_000, NS]), path, [0, 899_999_999, 900_000_000, NS])


def test_time_counts_from_the_first_frame_that_an_edit_list_shows(decord, tmp_path):
    whole = film(tmp_path / "whole.mp4")
    for path in (
        remuxed(whole, "-ss", "1.05", "--", name="cut.mp4"),
        remuxed(whole, "-itsoffset", "5000", "--", name="late.mkv"),
    ):
        times_ns = [0, NS // 2, NS]
        assert_equal(decord(path, times_ns), path, times_ns)


def test_pixels_that_are_not_square_are_displayed_so(decord, tmp_path):
    assert decord(remuxed(film(tmp_path / "a.mp4"), "--", "-aspect", "2:1", name="wide.mp4"))["size"] == (96, 48)


def test_a_turned_film_is_refused(decord, tmp_path):
    reason, detail = decord(remuxed(film(tmp_path / "a.mp4"), "-display_rotation", "90", "--", name="turned.mp4"))
    assert (reason, "turned" in detail) == (Reason.UNSUPPORTED_CODEC, True)


@pytest.mark.parametrize("name", ["a.ts", "a.avi"])
def test_what_decord_decodes_wrong_is_refused(name, decord, tmp_path):
    reason, detail = decord(film(tmp_path / name, "mpeg4"))
    assert reason == Reason.UNSUPPORTED_CODEC
    assert "decode.backend" in detail


@pytest.mark.parametrize(("codec", "expected"), [("libx264", Reason.DECODE_ERROR), ("libx265", Reason.DAMAGED)])
def test_damage_is_an_error_not_a_neighbour(codec, expected, decord, tmp_path):
    path = film(tmp_path / "a.mp4", codec, count=60)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[20:24]:
        data[packet.pos + 4 : packet.pos + packet.size] = bytes(packet.size - 4)
    path.write_bytes(data)
    reason, _ = decord(path, range(0, 6 * NS, NS // 10))
    assert reason == expected


def test_bounds_hold_before_decord_sees_the_film(decord, tmp_path):
    path = film(tmp_path / "a.mp4")
    assert decord(path, max_pixels=64 * 63)[0] == Reason.TOO_LARGE
    assert decord(path, [int(4.6 * NS)])[0] == Reason.TRUNCATED
    assert decord(path, [int(4.4 * NS)])["shown"][0][0] == int(Fraction(39, 10) * NS)
    path.write_bytes(path.read_bytes()[:500])
    assert decord(path)[0] == Reason.NOT_MEDIA
    path.write_bytes(b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n")
    assert decord(path)[0] == Reason.NOT_MEDIA
