"""Laws of the reference closure: what is sent is less, and the frames asked for come out the same, bit for bit."""

import re
import subprocess
from fractions import Fraction
from functools import cache
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decode.av1 import prune

WIDTH, HEIGHT, COUNT = 96, 64, 72

SVT = "-c:v libsvtav1 -crf 40 -preset 10 -svtav1-params lp=1"
AOM = "-c:v libaom-av1 -crf 40 -b:v 0 -cpu-used 8"
RAV1E = "-c:v librav1e -speed 10 -qp 120"

FAST = {
    "svt": SVT,
    "svt_grain": f"{SVT}:film-grain=30:keyint=30",
    "svt_low_delay": f"{SVT}:pred-struct=1",
    "aom": AOM,
    "aom_tile_groups": f"{AOM} -tile-columns 1 -vf scale=256:64 -aom-params num-tile-groups=2",
    "rav1e": RAV1E,
}
"""Encoder's arguments by the film's name."""

SLOW = {
    "svt_preset_4": "-c:v libsvtav1 -crf 40 -preset 4 -svtav1-params lp=1",
    "svt_preset_13": "-c:v libsvtav1 -crf 40 -preset 13 -svtav1-params lp=1",
    **{f"svt_levels_{n}": f"{SVT}:hierarchical-levels={n}" for n in (2, 3, 4, 5)},
    "svt_overlays": f"{SVT}:enable-overlays=1:tune=1:rc=1:tbr=100",
    "svt_scene_cuts": f"{SVT}:scd=1:keyint=200",
    "svt_keyint_5": f"{SVT}:keyint=5",
    "svt_open_gop": f"{SVT}:keyint=24:irefresh-type=1",
    "svt_screen": f"{SVT}:scm=1",
    "svt_superres": f"{SVT}:superres-mode=1:superres-denom=12",
    "svt_switch_frames": f"{SVT}:pred-struct=1:sframe-dist=12:sframe-mode=2",
    "svt_ten_bit_grain": f"{SVT}:film-grain=20 -pix_fmt yuv420p10le",
    "svt_timing": f"{SVT} -bsf:v av1_metadata=tick_rate=25:num_ticks_per_picture=1",
    "svt_ticks": f"{SVT} -bsf:v av1_metadata=tick_rate=25",
    "svt_delimiters": f"{SVT} -bsf:v av1_metadata=td=insert",
    "aom_slower": f"{AOM} -cpu-used 4 -lag-in-frames 35",
    "aom_lag_0": f"{AOM} -lag-in-frames 0",
    "aom_real_time": f"{AOM} -usage realtime -lag-in-frames 0",
    "aom_error_resilient": f"{AOM} -error-resilience default",
    "aom_frame_parallel": f"{AOM} -aom-params frame-parallel=1:enable-tpl-model=0",
    "aom_row_mt": f"{AOM} -row-mt 1 -threads 2 -tiles 2x1",
    "aom_screen": f"{AOM} -aom-params tune-content=screen:enable-intrabc=1:enable-palette=1",
    "aom_no_order_hint": f"{AOM} -aom-params enable-order-hint=0",
    "aom_grain": f"{AOM} -denoise-noise-level 20",
    "rav1e_low_latency": f"{RAV1E} -rav1e-params low_latency=true:error_resilient=true",
    "rav1e_keyint_10": f"{RAV1E} -g 10",
}


def texture(number):
    """Moving bands and noise, with a cut at frame 40."""
    rng = np.random.default_rng(number // 40)
    still = rng.integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    noise = np.random.default_rng(number).integers(0, 16, (HEIGHT, WIDTH, 3), np.uint8)
    return np.roll(still, (number, 3 * number), (0, 1)) // 2 + noise


def ffmpeg(arguments, data=None):
    return subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), *arguments.split()], input=data, check=True, capture_output=True
    ).stderr.decode(errors="replace")


class Av1Film:
    """A film's packets, GOP by GOP."""

    def __init__(self, path):
        import av

        self.path, self.gops = path, []
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                if packet.size and packet.is_keyframe:
                    self.gops.append([])
                if packet.size:
                    self.gops[-1].append(bytes(packet))
            self.extradata = container.streams.video[0].codec_context.extradata or b""
        # Matroska and mp4 put four bytes before the OBUs.
        self.sequence_header = self.extradata[4:] if self.extradata[:1] == b"\x81" else self.extradata

    def prune(self, gop, targets):
        return prune([memoryview(data) for data in gop[: max(targets) + 1]], targets, self.sequence_header)

    def decode(self, gop):
        """Planes by the packet's number, as `pipeline.decode.decoder` has libav decode a GOP."""
        import av

        context = av.CodecContext.create("libdav1d", "r")
        context.thread_count, context.extradata = 1, self.extradata
        frames = []
        for number, data in enumerate(gop):
            if data is not None:
                packet = av.Packet(bytes(data))
                packet.pts = packet.dts = number
                packet.time_base = Fraction(1, 25)
                frames += context.decode(packet)
        return {frame.pts: frame.to_ndarray() for frame in frames + context.decode(None)}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Renders a film once."""
    folder = tmp_path_factory.mktemp("av1")
    pixels = b"".join(texture(number).tobytes() for number in range(COUNT))
    source = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r 25 -i - -pix_fmt yuv420p"

    @cache
    def film(name, suffix):
        path = folder / f"{name}.{suffix}"
        ffmpeg(f"-v error {source} {(FAST | SLOW)[name]} {path}", pixels)
        return Av1Film(path)

    return film


def bytes_in(packets):
    return sum(len(data) for data in packets if data is not None)


def check_targets_equal(film, draw):
    gop = draw(st.sampled_from(film.gops))
    targets = draw(st.sets(st.integers(0, len(gop) - 1), min_size=1, max_size=4))
    sent = film.prune(gop, targets)
    assert sent is not None
    whole, frames = film.decode(gop[: max(targets) + 1]), film.decode(sent)
    assert frames.keys() <= whole.keys()
    assert all(np.array_equal(frames[target], whole[target]) for target in targets)


@pytest.mark.parametrize(("name", "suffix"), [*((name, "mp4") for name in FAST), ("svt", "mkv"), ("aom", "ivf")])
@settings(max_examples=10)
@given(data=st.data())
def test_the_frames_asked_for_come_out_bit_for_bit(films, name, suffix, data):
    check_targets_equal(films(name, suffix), data.draw)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST | SLOW)
@settings(max_examples=60)
@given(data=st.data())
def test_the_frames_asked_for_come_out_bit_for_bit_from_every_encoder(films, name, data):
    check_targets_equal(films(name, "mkv"), data.draw)


def test_leaving_out_one_more_packet_changes_what_comes_out(films):
    """The proof of the oracle: it sees nearly every fault of this kind."""
    from av.error import InvalidDataError

    film = films("svt", "mp4")
    gop, target = film.gops[0], 53
    sent = film.prune(gop, {target})
    right, kept = film.decode(sent)[target], [n for n, data in enumerate(sent) if data is not None and n != target]
    seen = 0
    for number in kept:
        try:
            frames = film.decode([None if n == number else data for n, data in enumerate(sent)])
        except InvalidDataError:
            frames = {}
        seen += not np.array_equal(frames.get(target), right)
    assert len(kept) >= 5
    assert seen >= 0.8 * len(kept)


# What is sent is just the closure, by libav's own reading of the headers.


def traced(film):
    """For each packet of the first GOP its OBUs: (bytes, frame's fields by name; None for an OBU of no frame)."""
    trace = ffmpeg(f"-v trace -i {film.path} -c copy -bsf:v trace_headers -f null -")
    packets = []
    for line in trace.splitlines():
        if "trace_headers" not in line or not (packets or "Packet: " in line):
            continue
        if "Packet: " in line:
            if "key frame" in line and packets:
                break
            packets.append([])
        field = re.search(r"\]\s+\d+\s+(\S+)\s+\S+ = (\d+)$", line)
        if field:
            name, value = field[1], int(field[2])
            if name == "obu_size":
                packets[-1].append([2 + (value >= 1 << 7) + (value >= 1 << 14) + value, None])
            elif name == "show_existing_frame":
                packets[-1][-1][1] = {}
            if packets[-1] and packets[-1][-1][1] is not None:
                packets[-1][-1][1].setdefault(name, value)
    return packets


def closures(frames):
    """For each frame all those that it needs, itself among them, played forward through the slots."""
    slots, needs = [None] * 8, []
    for number, frame in enumerate(frames):
        again = frame["show_existing_frame"]
        used = [frame["frame_to_show_map_idx"]] if again else [frame.get(f"ref_frame_idx[{i}]") for i in range(7)]
        held = [slots[slot] for slot in used if slot is not None]
        kind = held[0][0] if again else frame["frame_type"]
        needs.append({number}.union(*(need for _, need in held)))
        all_slots = (kind == 0 and (again or frame["show_frame"])) or (kind == 3 and not again)
        refresh = 0xFF if all_slots else frame.get("refresh_frame_flags", 0)
        slots = [(kind, needs[-1]) if refresh >> slot & 1 else old for slot, old in enumerate(slots)]
    return needs


@pytest.mark.parametrize("name", ["svt", "svt_low_delay", "aom", "rav1e"])
def test_what_is_sent_is_the_closure_and_no_more(films, name):
    film = films(name, "mkv")
    packets = traced(film)
    needs = closures([fields for obus in packets for _, fields in obus if fields])
    for target in range(0, len(packets), 3):
        # The keyframe goes with them always.
        last = sum(1 for obus in packets[: target + 1] for _, fields in obus if fields) - 1
        needed, number, expected = needs[last] | {0}, 0, []
        for obus in packets[: target + 1]:
            kept = 0
            for size, fields in obus:
                kept += size if fields is None or number in needed else 0
                number += fields is not None
            any_frame = any(n in needed for n in range(number - sum(f is not None for _, f in obus), number))
            expected.append(kept if any_frame else None)
        sent = film.prune(film.gops[0], {target})
        assert [None if data is None else len(data) for data in sent] == expected


def test_hidden_frames_that_no_target_needs_are_cut_out_of_their_packets(films):
    film = films("svt", "mp4")
    gop = film.gops[0]
    sent = film.prune(gop, {len(gop) - 1})
    assert any(data is not None and len(data) < len(whole) for data, whole in zip(sent, gop, strict=True))
    assert bytes_in(sent) < 0.9 * bytes_in(gop)


# Headers with every optional field, written bit by bit as the specification's tables have them.

TIMINGS = ("none", "equal interval", "free", "equal interval, model", "free, model")


@st.composite
def sequences(draw):
    """What a sequence header says."""
    flag = st.integers(0, 1)
    return SimpleNamespace(
        timing=draw(st.sampled_from(TIMINGS)), ticks=draw(st.sampled_from(("1", "00101"))),
        delay=draw(st.integers(1, 32)), removal=draw(st.integers(1, 32)), presentation=draw(st.integers(1, 32)),
        of_point=draw(flag), display_delay=draw(flag), level=draw(st.sampled_from((0, 7, 8, 31))),
        delta_id=draw(st.integers(0, 14)), id_more=draw(st.integers(1, 2)), hint=draw(st.integers(0, 8)),
        screen=draw(st.integers(0, 2)), integer_mv=draw(st.integers(0, 2)), points=0, reduced=0,
    )  # fmt: skip


def u(value, length):
    assert value < 1 << length or not length
    return f"{value:0{length}b}" if length else ""


def chosen(value):
    """A flag that frames may choose for themselves (2), or that holds for all."""
    return "1" if value == 2 else f"0{value}"


def sequence_bits(s):
    """Section 5.5.1."""
    equal, model = "equal" in s.timing, "model" in s.timing
    bits = "00000" if not s.reduced else "00011"
    bits += (
        "0" if s.timing == "none" else "1" + u(1, 32) + u(25, 32) + ("1" + s.ticks if equal else "0") + u(model, 1)
    )
    if model:
        bits += u(s.delay - 1, 5) + u(7, 32) + u(s.removal - 1, 5) + u(s.presentation - 1, 5)
    bits += u(s.display_delay, 1) + u(s.points, 5) + u(0, 12) + u(s.level, 5) + ("0" if s.level > 7 else "")
    if model:
        bits += u(s.of_point, 1) + (u(1, s.delay) + u(0, s.delay) + "0" if s.of_point else "")
    bits += "1" + u(9, 4) if s.display_delay else ""
    bits += u(6, 4) + u(5, 4) + u(95, 7) + u(63, 6)
    bits += "1" + u(s.delta_id - 2, 4) + u(s.id_more - 1, 3) if s.delta_id >= 2 else "0"
    bits += "0000000" + ("111" if s.hint else "0") + chosen(s.screen)
    bits += chosen(s.integer_mv) if s.screen else ""
    return bits + (u(s.hint - 1, 3) if s.hint else "") + "10101"


@st.composite
def frames(draw, shown, first=False):
    if not first and shown and draw(st.integers(0, 3)) == 0:
        return {"show_existing_frame": 1, "frame_to_show_map_idx": draw(st.integers(0, 7))}
    kind = 0 if first else draw(st.sampled_from((0, 1, 1, 1, 2, 3)))
    fields = {"show_existing_frame": 0, "frame_type": kind, "show_frame": int(shown)}
    fields |= {"resilient": draw(st.integers(0, 1)), "screen": draw(st.integers(0, 1))}
    fields |= {"refresh_frame_flags": draw(st.integers(0, 254))}
    if kind in (1, 3):
        fields |= {f"ref_frame_idx[{i}]": draw(st.integers(0, 7)) for i in range(7)}
    return fields


def frame_bits(f, s, short=0):
    """Section 5.9.2."""
    timed = u(1, s.presentation) if s.timing == "free, model" else ""
    number = s.delta_id + s.id_more if s.delta_id >= 2 else 0
    if f["show_existing_frame"]:
        return "1" + u(f["frame_to_show_map_idx"], 3) + timed + u(0, number) + "1"
    kind, shown = f["frame_type"], f["show_frame"]
    clean = kind == 3 or (kind == 0 and shown)
    resilient = clean or f["resilient"]
    bits = "0" + u(kind, 2) + u(shown, 1) + (timed if shown else "1") + ("" if clean else u(resilient, 1)) + "0"
    bits += u(f["screen"], 1) if s.screen == 2 else ""
    screen = f["screen"] if s.screen == 2 else s.screen
    bits += "1" if screen and (s.integer_mv == 2) else ""
    bits += u(1, number) + ("" if kind == 3 else "0") + u(1, s.hint)
    bits += "" if kind in (0, 2) or resilient else "101"
    if "model" in s.timing:
        bits += "1" + (u(1, s.removal) if s.of_point else "")
    bits += "" if clean else u(f["refresh_frame_flags"], 8)
    bits += u(1, 8 * s.hint) if resilient and s.hint and not (kind == 0 and clean) else ""
    if kind in (1, 3):
        bits += u(short, 1) if s.hint else ""
        bits += "".join(u(f[f"ref_frame_idx[{i}]"], 3) + u(1, s.delta_id if number else 0) for i in range(7))
    return bits + "1"


def obu(kind, bits, filler=b"", sized=True, layer=None):
    payload = int(bits.ljust(-(-len(bits) // 8) * 8, "0") or "0", 2).to_bytes(-(-len(bits) // 8), "big") + filler
    size = bytes([len(payload) & 0x7F | 0x80, len(payload) >> 7]) if sized else b""
    extension = b"" if layer is None else bytes([layer])
    return bytes([kind << 3 | (layer is not None) << 2 | sized << 1]) + extension + size + payload


@st.composite
def streams(draw):
    """A sequence, and temporal units: for each its OBUs, (bytes, frame or None)."""
    s, units = draw(sequences()), []
    for number in range(draw(st.integers(1, 8))):
        unit = [(obu(2, ""), None)] if draw(st.booleans()) else []
        unit += [(obu(1, sequence_bits(s)), None)] if number == 0 or draw(st.integers(0, 4)) == 0 else []
        hidden = 0 if number == 0 else draw(st.integers(0, 2))
        for place in range(hidden + 1):
            frame, filler = draw(frames(place == hidden, number == 0)), bytes([number, place] * 50)
            bits = frame_bits(frame, s)
            layer = draw(st.sampled_from((None, 0x20)))  # a temporal layer is no hindrance
            if frame["show_existing_frame"] or draw(st.booleans()):
                parts = [obu(3, bits, layer=layer)]
                parts += (
                    [] if frame["show_existing_frame"] else [obu(4, "", filler), obu(7, bits), obu(4, "", filler)]
                )
            else:
                parts = [obu(6, bits, filler, sized=place < hidden or draw(st.booleans()), layer=layer)]
            unit.append((b"".join(parts), frame))
            if not parts[-1][0] & 2:
                break
            unit += [(obu(5, "", b"metadata"), None)] if draw(st.booleans()) else []
        units.append(unit)
    return s, units


@settings(max_examples=150)
@given(stream=streams(), data=st.data())
def test_every_optional_field_is_stepped_over(stream, data):
    _, units = stream
    targets = data.draw(st.sets(st.integers(0, len(units) - 1), min_size=1))
    units = units[: max(targets) + 1]
    every = [frame for unit in units for _, frame in unit if frame]
    needs, numbers = closures(every), iter(range(len(every)))
    numbered = [[(data, None if frame is None else next(numbers)) for data, frame in unit] for unit in units]
    shown = [max(number for _, number in unit if number is not None) for unit in numbered]
    needed = set().union({0}, *(needs[shown[target]] for target in targets))
    expected = [
        b"".join(data for data, number in unit if number is None or number in needed)
        if any(number in needed for _, number in unit) else None
        for unit in numbered
    ]  # fmt: skip

    sent = prune([memoryview(joined(unit)) for unit in units], targets, b"")
    assert [None if data is None else bytes(data) for data in sent] == expected


def joined(unit):
    return b"".join(data for data, _ in unit)


# What it cannot tell, it says so.

PLAIN = SimpleNamespace(
    timing="none", display_delay=0, level=4, delta_id=0, hint=7, screen=0, integer_mv=2, points=0, reduced=0
)
HEADER = obu(1, sequence_bits(PLAIN))
KEY = {"show_existing_frame": 0, "frame_type": 0, "show_frame": 1, "resilient": 1, "screen": 0}
INTER = (
    KEY | {"frame_type": 1, "resilient": 0, "refresh_frame_flags": 1} | {f"ref_frame_idx[{i}]": i for i in range(7)}
)
HIDDEN_KEY = obu(6, frame_bits(KEY | {"show_frame": 0, "refresh_frame_flags": 255}, PLAIN))
FIRST, SECOND = obu(6, frame_bits(KEY, PLAIN)), obu(6, frame_bits(INTER, PLAIN))


def other(**fields):
    return obu(1, sequence_bits(SimpleNamespace(**vars(PLAIN) | fields)))


UNTELLABLE = {
    "no sequence header": [FIRST, SECOND],
    "several operating points": [other(points=1) + FIRST, SECOND],
    "an endless number": [other(timing="equal interval", ticks=f"{1:033b}{0:032b}") + FIRST, SECOND],
    "a still picture": [other(reduced=1) + FIRST, SECOND],
    "another sequence": [HEADER + FIRST, other(level=5) + SECOND],
    "short reference signaling": [HEADER + FIRST, obu(6, frame_bits(INTER, PLAIN, short=1))],
    "a spatial layer": [HEADER + FIRST, obu(6, frame_bits(INTER, PLAIN), layer=0x08)],
    "a tile list": [HEADER + FIRST, SECOND + obu(8, "1")],
    "no keyframe first": [HEADER + SECOND, SECOND],
    "a hidden keyframe first": [HEADER + HIDDEN_KEY + SECOND, SECOND],
    "tiles of no frame": [HEADER + FIRST, obu(4, "1") + SECOND],
    "two frames shown": [HEADER + FIRST, SECOND + SECOND],
    "no frame shown": [HEADER + FIRST, obu(2, "")],
    "a hidden frame last": [HEADER + FIRST, SECOND + obu(6, frame_bits(INTER | {"show_frame": 0}, PLAIN))],
    "an OBU beyond its packet": [HEADER + FIRST, obu(6, frame_bits(INTER, PLAIN), b"tiles")[:-1]],
    "a size without end": [HEADER + FIRST, b"\x32" + b"\xff" * 9],
    "a size cut off": [HEADER + FIRST, b"\x32\xff"],
    "an extension cut off": [HEADER + FIRST, b"\x34"],
    "a forbidden bit": [HEADER + FIRST, bytes([SECOND[0] | 0x80]) + SECOND[1:]],
    "a header cut off": [HEADER + FIRST, obu(6, "0010")],
}  # fmt: skip


@pytest.mark.parametrize("name", UNTELLABLE)
def test_what_is_damaged_or_rare_is_not_pruned(name):
    assert prune([memoryview(HEADER + FIRST), memoryview(SECOND)], {1}, b"") is not None
    assert prune([memoryview(data) for data in UNTELLABLE[name]], {1}, b"") is None


def test_the_streams_own_sequence_header_counts_more_than_the_containers():
    assert prune([memoryview(FIRST), memoryview(SECOND)], {1}, HEADER) is not None
    assert prune([memoryview(HEADER + FIRST), memoryview(SECOND)], {1}, other(points=1)) is not None


@settings(max_examples=200)
@given(data=st.data())
def test_damage_never_raises(films, data):
    film = films("svt", "mp4")
    gop = [bytearray(packet) for packet in film.gops[0][:12]]
    for _ in range(data.draw(st.integers(1, 4))):
        packet = data.draw(st.sampled_from(gop))
        packet[data.draw(st.integers(0, min(40, len(packet) - 1)))] = data.draw(st.integers(0, 255))
    sent = film.prune(gop, {11})
    assert sent is None or len(sent) == 12
