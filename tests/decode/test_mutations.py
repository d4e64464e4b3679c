"""Laws for broken and hostile films: each is answered once, in time, opens no other file; its damage is told."""

import ctypes
import os
import random
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from decode_films import sample
from film_zoo import ZOO, build

from pipeline.decode.film import Film
from pipeline.decode.grid import NS
from pipeline.decode.media import BadMedia, open_plain
from pipeline.decode.stage import Decode
from pipeline.decode.worker import rejection
from pipeline.runtime.isolated import ChildRaised, Isolated
from schemas.arrays import Frames
from schemas.media import DecodeSpec, Preprocessing
from schemas.rejection import Reason, Rejection

SPEC = DecodeSpec(deadline_s=5, memory_mb=2048)
SMALL = {"siglip": Preprocessing(size=14, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))}
MARGIN_S = 3.0
"""A kill and a new child, on a busy machine."""
TIMES_NS = [k * NS // 2 for k in range(6)]
FLAGGED = {"h264": 0.6, "av1": 0.7, "mpeg2": 0.9, "mpeg4": 0.9}
"""Least share of visibly damaged frames called damaged, after bit flips in films of 96 x 64.

The others' entropy coders read any bits as some picture: VP8, VP9, HEVC and most of MJPEG tell nothing.
"""


# How a film is broken. Each takes the bytes and an rng, and returns other bytes.


def bits_flipped(data, rng):
    changed = bytearray(data)
    for _ in range(rng.randint(1, 50)):
        changed[rng.randrange(len(data) // 20, len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncated(data, rng):
    return data[: rng.randrange(1, len(data))]


def header_edited(data, rng):
    """Random bytes in the first or last 2 KiB, or in the first of `moov`."""
    moov = max(0, data.find(b"moov"))
    begin = rng.choice([0, moov, max(0, len(data) - 2048)])
    changed = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(begin, min(len(data), begin + 2048))] = rng.randrange(256)
    return bytes(changed)


def parts_swapped(data, rng):
    """Top-level boxes of an MP4 in another order; of other films two blocks of 4 KiB."""
    boxes = _boxes(data)
    if len(boxes) > 1:
        rng.shuffle(boxes)
        return b"".join(boxes)
    a, b = sorted(rng.sample(range(0, len(data) - 8192, 4096), 2))
    return b"".join((data[:a], data[b : b + 4096], data[a + 4096 : b], data[a : a + 4096], data[b + 4096 :]))


def size_oversized(data, rng):
    """A box, or any four bytes of the first 4 KiB, claims gigabytes."""
    places = [
        at - 4 for name in (b"moov", b"trak", b"stsz", b"stco", b"stts", b"avcC") if (at := data.find(name)) > 3
    ]
    at = rng.choice(places or range(min(len(data), 4096) - 4))
    return data[:at] + rng.choice([b"\x7f\xff\xff\xf0", b"\xff\xff\xff\xff", b"\0\0\0\1"]) + data[at + 4 :]


def zeroed(data, rng):
    begin = rng.randrange(len(data))
    size = min(len(data) - begin, rng.randint(1, len(data) // 4))
    return data[:begin] + bytes(size) + data[begin + size :]


def _boxes(data):
    boxes, at = [], 0
    while data[4:8] == b"ftyp" and at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        boxes.append(data[at : at + size])
        at += max(size, 8)
    return boxes


BREAKING = (bits_flipped, truncated, header_edited, parts_swapped, size_oversized, zeroed)


# Films that name other files.


def disguised(canary, folder, port, film, live):
    """{name: bytes} of playlists and films that point at `canary`, by every kind of name."""
    names = {
        "absolute": str(canary), "relative": os.path.relpath(canary, folder), "here": os.path.relpath(canary),
        "file": f"file:{canary}", "http": f"http://127.0.0.1:{port}/{canary.name}",
    }  # fmt: skip
    found = {}
    for kind, name in names.items():
        playlists = {
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
            "hls_key": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n"
            f'#EXT-X-KEY:METHOD=AES-128,URI="{name}"\n#EXTINF:9,\nx.ts\n',
            "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT3S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
            f'bandwidth="1"><BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period></MPD>',
            "concat": f"ffconcat version 1.0\nfile '{name}'\n",
            "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
            f"a=rtpmap:96 H264/90000\na=control:{name}\n",
            "smil": f'<smil><body><video src="{name}"/></body></smil>',
            "rtsptext": f"RTSPtext\nrtsp://127.0.0.1:{port}/{name}\n",
            "ref": f"[Reference]\nRef1={name}\n",
        }
        found |= {f"{format_}-{kind}.mp4": text.encode() for format_, text in playlists.items()}
        found[f"dref-{kind}.mp4"] = with_outside_data(film, name)
    found["linked.mkv"] = with_linked_segment(live, canary.name)
    return found


def with_outside_data(film, name):
    """An MP4 whose track data lie in another file: its data reference is an alias of `name`."""
    path = name.encode()
    alias = bytes(8) + bytes([27]) + bytes(27 + 12) + bytes([63]) + canary_name(name) + bytes(16 + 4 + 16)
    for kind in (2, 18):
        alias += struct.pack(">HH", kind, len(path)) + path + bytes(len(path) % 2)
    alias = struct.pack(">I4sI", 14 + len(alias) + 2, b"alis", 0) + bytes(2) + alias + b"\xff\xff"
    dref = struct.pack(">I4sII", 16 + len(alias), b"dref", 0, 1) + alias
    at = film.index(b"dref") - 4
    (old,) = struct.unpack_from(">I", film, at)
    changed = bytearray(film[:at] + dref + film[at + old :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = film.rindex(box, 0, at) - 4
        struct.pack_into(">I", changed, place, struct.unpack_from(">I", film, place)[0] + len(dref) - old)
    return bytes(changed)


def canary_name(name):
    return Path(name).name.encode()[:63].ljust(63, b"\0")


def with_linked_segment(live, name):
    """A Matroska film whose muxer's name became the name of its next segment."""
    at = live.index(b"\x4d\x80")
    size = live[at + 2] & 0x7F
    return (
        live[:at]
        + b"\x3e\x83\xbb"
        + bytes([0x80 | size - 1])
        + name.encode().ljust(size - 1, b"\0")
        + live[at + 3 + size :]
    )


class Watch:
    """Counts the opening of files in a folder, and connections to a port of this machine."""

    _IN_OPEN = 0x20

    def __init__(self, folder):
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self._descriptor, os.fsencode(folder), self._IN_OPEN) >= 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    def seen(self):
        """What happened since the last call."""
        found = []
        with suppress(BlockingIOError):
            found.append(f"a file was opened: {os.read(self._descriptor, 65536)!r}")
        with suppress(BlockingIOError):
            found.append(f"a connection came: {self._socket.accept()[1]}")
        return found

    def close(self):
        os.close(self._descriptor)
        self._socket.close()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def watch(tmp_path, zoo):
    folder = tmp_path / "canaries"
    folder.mkdir()
    for suffix in ("mp4", "ts"):
        film = zoo["b_pyramid.mp4" if suffix == "mp4" else "plain.ts"]
        (folder / f"c.{suffix}").write_bytes(film.read_bytes())
    watch = Watch(folder)
    yield watch
    watch.close()


def write_mutants(folder, zoo, count, watch):
    """`count` broken films and all disguised ones: {name: how it was made}."""
    made = {}
    for number in range(count):
        rng = random.Random(f"mutant {number}")
        source, breaking = rng.choice(list(zoo)), BREAKING[number % len(BREAKING)]
        path = folder / f"{number}{Path(source).suffix}"
        path.write_bytes(breaking(zoo[source].read_bytes(), rng))
        made[path.name] = f"{source}, {breaking.__name__}"
    film, live = zoo["b_pyramid.mp4"].read_bytes(), zoo["live.mkv"].read_bytes()
    for canary in (folder.parent / "canaries" / "c.mp4", folder.parent / "canaries" / "c.ts"):
        for name, data in disguised(canary, folder, watch.port, film, live).items():
            (folder / f"{canary.suffix[1:]}-{name}").write_bytes(data)
            made[f"{canary.suffix[1:]}-{name}"] = "disguised"
    return made


def assert_laws_hold(folder, made, watch):
    """Puts all through one stage. Returns {name: outcome}."""
    call, seconds, bugs = Isolated.call, [], []

    def timed(self, film, *args):
        begin = time.monotonic()
        try:
            return call(self, film, *args)
        except ChildRaised as error:
            name = film.media[0].path
            bugs.append(f"{name} ({made.get(name)}): {error}")
            return rejection(film, Reason.DECODE_ERROR, "a bug", name)
        finally:
            seconds.append(time.monotonic() - begin)

    (folder / "sound.mp4").write_bytes((folder.parent / "canaries" / "c.mp4").read_bytes())
    samples = [sample(name, key=f"k{number}") for number, name in enumerate(made)]
    stage, outcomes = Decode(SPEC, SMALL, {"s": str(folder)}), []
    watch.seen()
    try:
        stage.setup()
        with patch.object(Isolated, "call", timed):
            for begin in range(0, len(samples), 20):
                outcomes += stage.process(samples[begin : begin + 20])
        (last,) = stage.process([sample("sound.mp4")])
        assert isinstance(last, Frames), "the stage is usable after"
    finally:
        stage.close()
    assert not bugs
    assert [_key(outcome) for outcome in outcomes] == [s.key for s in samples]
    assert len(seconds) == len(samples)
    assert max(seconds) < SPEC.deadline_s + MARGIN_S
    return dict(zip(made, outcomes, strict=True))


def _key(outcome):
    return outcome.key if isinstance(outcome, Rejection) else outcome.meta.key


def _outcome(outcome):
    return str(outcome.reason) if isinstance(outcome, Rejection) else "frames"


def check_mutants(tmp_path, zoo, watch, count):
    folder = tmp_path / "films"
    folder.mkdir()
    made = write_mutants(folder, zoo, count, watch)
    outcomes = assert_laws_hold(folder, made, watch)
    assert not watch.seen()
    for name, how in made.items():
        if how == "disguised" and "dref" not in name and "linked" not in name:
            assert _outcome(outcomes[name]) == Reason.NOT_MEDIA, name
    table = Counter((how.split(", ")[-1], _outcome(outcomes[name])) for name, how in made.items())
    lines = [f"{how:16} {outcome:18} {number}" for (how, outcome), number in sorted(table.items())]
    killed = (Reason.DECODER_DIED, Reason.DECODE_TIMEOUT)
    return lines + [
        f"{name} ({how}): {outcomes[name].detail}"
        for name, how in made.items()
        if _outcome(outcomes[name]) in killed
    ]


def test_a_broken_or_hostile_film_is_answered_once_in_time_and_opens_nothing_else(tmp_path, zoo, watch):
    check_mutants(tmp_path, zoo, watch, 40)


@pytest.mark.parametrize(
    ("name", "breaking", "seeds"),
    [
        ("wmv2.asf", header_edited, (51, 54, 60)),  # libav seeks to before the file's start
        ("plain.ts", bits_flipped, (10, 120, 132)),  # a stream appears when the film has been read half
    ],
)
def test_what_once_ended_the_run_is_a_rejection_or_frames(tmp_path, zoo, name, breaking, seeds):
    with Isolated("pipeline.decode.worker:decode_sample", deadline_s=5, memory_mb=2048) as child:
        for seed in seeds:
            (tmp_path / name).write_bytes(breaking(zoo[name].read_bytes(), random.Random(seed)))
            assert isinstance(child.call(sample(name), str(tmp_path), SPEC, SMALL), Frames | Rejection)


@pytest.mark.slow
def test_a_thousand_broken_or_hostile_films_are_each_answered(tmp_path, zoo, watch, capsys):
    say(capsys, check_mutants(tmp_path, zoo, watch, 1000))


def say(capsys, lines):
    """Figures to the terminal, not only on failure."""
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *lines, ""]))


def test_the_canaries_are_seen_when_a_film_is_let_out(tmp_path, zoo, watch):
    """The danger is real, and the watch would tell."""
    import av

    (tmp_path / "films").mkdir()
    film, live = zoo["b_pyramid.mp4"].read_bytes(), zoo["live.mkv"].read_bytes()
    lists = disguised(tmp_path / "canaries" / "c.ts", tmp_path / "films", watch.port, film, live)
    for name, suffix in (("hls-absolute.mp4", ".m3u8"), ("concat-relative.mp4", ".ffconcat")):
        path = (tmp_path / "films" / name).with_suffix(suffix)
        path.write_bytes(lists[name])
        watch.seen()
        with av.open(str(path), options={"safe": "0", "allowed_extensions": "ALL"}) as unguarded:
            assert unguarded.streams.video
        assert any("file" in event for event in watch.seen()), name
    path = tmp_path / "films" / "dref-absolute.mp4"
    path.write_bytes(with_outside_data(film, str(tmp_path / "canaries" / "c.mp4")))
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as unguarded:
        next(unguarded.decode(video=0))
    assert watch.seen(), "an outside data reference is followed where libav is told to"
    socket.create_connection(("127.0.0.1", watch.port)).close()
    assert any("connection" in event for event in watch.seen())


# Damage that libav can tell is told.


def visibly_differ(a, b):
    """Of two lumas: by 2 levels of 255 on average, or a block of 16 x 16 by 20: more than a coder's noise."""
    if a.shape != b.shape:
        return True
    difference = np.abs(a.astype(int) - b)
    height, width = (side // 16 * 16 for side in difference.shape)
    blocks = difference[:height, :width].reshape(height // 16, 16, width // 16, 16).mean((1, 3))
    return bool(difference.mean() > 2 or blocks.max() > 20)


@lru_cache(maxsize=1)
def lumas(path):
    """[(pts_ns, luma, damaged)] of the frames shown at TIMES_NS."""
    with open_plain(str(path.parent), path.name) as file, Film(file, DecodeSpec()) as film:
        return [(s.pts_ns, luma(s.picture.frame), s.damaged) for s in film.shown_at(TIMES_NS)]


def luma(frame):
    return frame.reformat(format="gray8", threads=1).to_ndarray()


def flip_inside_packets(path, rng):
    """Flips 1 to 50 bits of the coded pictures."""
    import av

    with av.open(str(path)) as film:
        spans = [(packet.pos, packet.size) for packet in film.demux(video=0) if packet.size and packet.pos]
    changed = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 3, 5, 10, 20, 50])):
        begin, size = rng.choice(spans)
        changed[min(begin + rng.randrange(size), len(changed) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def measure_damage(path, folder, count):
    """Counts over `count` flipped films: frames that visibly differ, those called damaged, false alarms."""
    counts = {"visible": 0, "flagged": 0, "equal": 0, "false alarms": 0, "refused films": 0}
    sound = lumas(Path(path))
    for number in range(count):
        broken = Path(folder, f"{number}-{Path(path).name}")
        broken.write_bytes(flip_inside_packets(Path(path), random.Random(f"{Path(path).name} {number}")))
        try:
            shown = lumas.__wrapped__(broken)
        except BadMedia:
            counts["refused films"] += 1
            continue
        for (true_ns, before, _), (pts_ns, after, damaged) in zip(sound, shown, strict=True):
            visible = pts_ns != true_ns or visibly_differ(before, after)
            equal = pts_ns == true_ns and np.array_equal(before, after)
            counts["visible"] += visible
            counts["flagged"] += visible and damaged
            counts["equal"] += equal
            counts["false alarms"] += equal and damaged
    return counts


@pytest.mark.slow
def test_frames_damaged_by_flipped_bits_are_called_damaged_where_the_codec_can_tell(tmp_path, zoo, capsys):
    table = {}
    with Isolated("test_mutations:measure_damage", deadline_s=120, memory_mb=2048) as child:
        for name, recipe in ZOO.items():
            if recipe.codec:
                counts = child.call(str(zoo[name]), str(tmp_path), 120)
                table.setdefault(recipe.codec, Counter()).update(counts)
    say(capsys, [f"{codec:6} {c['flagged'] / c['visible']:.2f} {dict(c)}" for codec, c in table.items()])
    for codec, counts in table.items():
        assert counts["flagged"] >= FLAGGED.get(codec, 0) * counts["visible"], codec
