"""Films that once were shown wrong without a word. One law each, for every bug of this kind that was found."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from decode_films import NS, SPEC, render
from PIL import Image

from pipeline.decode.film import Film
from pipeline.decode.media import BadMedia, open_plain
from pipeline.decode.worker import probe_medium
from schemas.rejection import Reason


def noise(number):
    return np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)


def shown(path, times):
    with open_plain(str(path.parent), path.name) as file, Film(file, SPEC) as film:
        return [(frame.pts_ns, frame.damaged, frame.picture.frame.to_ndarray()) for frame in film.shown_at(times)]


def packets_of(path):
    import av

    with av.open(str(path)) as container:
        return [(packet.pos, packet.size, packet.pts) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("mpeg4", "avi")])
def test_a_film_whose_first_frame_is_broken_does_not_begin_at_a_later_one(tmp_path, codec, suffix):
    path = render(tmp_path / f"film.{suffix}", 60, codec=codec, gop=20, b_frames=0, frame=noise)
    offset, size, _ = packets_of(path)[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(BadMedia) as caught:
        shown(path, [0, 3 * NS])
    assert caught.value.reason is Reason.DAMAGED


def test_frame_by_frame_too_a_lost_run_of_frames_is_no_good_freeze(tmp_path):
    path = render(tmp_path / "film.avi", 60, codec="mpeg4", gop=40, b_frames=0, frame=noise)
    data = bytearray(path.read_bytes())
    for offset, size, _ in packets_of(path)[10:40]:
        data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    told = {pts: damaged for pts, damaged, _ in shown(path, [0, NS // 2])}
    assert not any(told.values())
    assert all(damaged for _, damaged, _ in shown(path, [3 * NS // 2, 3 * NS]))
    assert not shown(path, [5 * NS])[0][1]


def test_times_that_lie_before_those_of_decoding_cut_nothing_off(tmp_path):
    """FLV may store negative composition times; then a packet's dts does not bound the times of later ones."""
    path = render(tmp_path / "film.flv", 60, gop=30, frame=noise)
    data, at = bytearray(path.read_bytes()), 0
    while (at := data.find(b"\x09", at + 1)) > 0:
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        body = at + 11
        if data[body + 1 : body + 2] == b"\x01" and data[body] & 15 == 7 and body + size + 4 <= len(data):
            time = int.from_bytes(data[body + 2 : body + 5], "big", signed=True) - 300
            data[body + 2 : body + 5] = time.to_bytes(3, "big", signed=True)
            at = body + size
    path.write_bytes(data)
    times = sorted(pts for _, _, pts in packets_of(path))
    assert any(pts < 0 for pts in times)
    for number in range(10, 50):
        t_ns = (times[number] - times[0]) * 10**6
        ((pts_ns, _, _),) = shown(path, [t_ns])
        assert pts_ns == t_ns


def test_parameters_that_come_on_the_way_are_not_left_out_with_their_frames(tmp_path):
    parts = []
    for number, crf in enumerate(("10", "40")):
        options = {"preset": "ultrafast", "bf": "0", "crf": crf, "x264-params": f"chroma-qp-offset={12 * number}"}
        path = render(
            tmp_path / f"{number}.flv", 40, gop=10, b_frames=0, frame=noise,
            setup=lambda stream, options=options: setattr(stream.codec_context, "options", options),
        )  # fmt: skip
        parts.append(bytearray(path.read_bytes()))
    first, second = parts
    at = 13  # behind the header; then tags: type, size, time in ms
    while at < len(second):
        size = int.from_bytes(second[at + 1 : at + 4], "big")
        second[at + 4 : at + 7] = (int.from_bytes(second[at + 4 : at + 7], "big") + 4000).to_bytes(3, "big")
        at += 11 + size + 4
    path = tmp_path / "joined.flv"
    path.write_bytes(first + second[13:])
    every = shown(path, [k * NS // 10 for k in range(75)])
    for k in (72, 74):
        ((pts_ns, damaged, planes),) = shown(path, [k * NS // 10])
        assert (pts_ns, damaged) == (every[k][0], False)
        np.testing.assert_array_equal(planes, every[k][2])


def test_an_animated_webp_is_probed_like_any_film(tmp_path):
    images = [Image.fromarray(noise(number)) for number in range(6)]
    images[0].save(tmp_path / "film.webp", save_all=True, append_images=images[1:], duration=100, lossless=True)
    facts = probe_medium(str(tmp_path), "film.webp", "video", SPEC)
    assert (facts["width"], facts["height"], facts["duration_ns"]) == (64, 48, 6 * NS // 10)


def test_a_dead_child_is_replaced_where_the_kernel_reaps_children_by_itself():
    code = """
import os, signal
from pipeline.runtime.isolated import ChildDied, Isolated
with Isolated("os:getpid", deadline_s=20, memory_mb=512) as child:
    first = child.call()
    os.kill(first, signal.SIGKILL)
    try:
        child.call()
    except ChildDied:  # of what it died is not known then
        pass
    print(child.call() != first)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )  # fmt: skip
    assert done.stdout == "True\n"
