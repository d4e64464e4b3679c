"""Laws of `repaired`: it mends jumps of time, hides no damage, opens nothing else and leaves nothing behind."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from decode_films import NS, SPEC, reference, render

from pipeline.decode import salvage
from pipeline.decode.media import BadMedia
from pipeline.decode.salvage import repaired
from schemas.media import DecodeSpec
from schemas.rejection import Reason

TS_PACKET = 188
PARTS = [("part.ts", "libx264"), ("part.ts", "libx265"), ("part.ts", "mpeg2video"), ("part.mpg", "mpeg2video")]


@pytest.fixture(scope="module", params=PARTS, ids=lambda part: "-".join(part))
def joined(request, tmp_path_factory):
    """A film, and the file that is that film twice, end to end."""
    name, codec = request.param
    return twice(tmp_path_factory.mktemp("joined") / name, codec)


@pytest.fixture(scope="module")
def joined_ts(tmp_path_factory):
    return twice(tmp_path_factory.mktemp("joined_ts") / "part.ts", "libx264")


def twice(path, codec):
    def quiet(stream):
        stream.codec_context.options = {**stream.codec_context.options, "x265-params": "log-level=none"}

    part = render(path, count=50, rate=25, codec=codec, setup=quiet if codec == "libx265" else None)
    whole = path.with_stem("whole")
    whole.write_bytes(part.read_bytes() * 2)
    return part, whole


def written(tmp_path, data, name="film"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def mended_frames(path):
    """As `reference`, of the mended copy."""
    with path.open("rb") as file, repaired(file, SPEC) as mended, av.open(BytesIO(mended.read())) as container:
        frames = [(f.pts * f.time_base, f.to_ndarray()) for f in container.decode(video=0)]
    return [(int((pts - frames[0][0]) * NS), planes) for pts, planes in frames]


def refusal(path, spec=SPEC):
    with path.open("rb") as file, pytest.raises(BadMedia) as caught, repaired(file, spec):
        pass
    return caught.value


def test_parts_follow_one_another_without_a_gap_and_keep_every_frame(joined):
    part, whole = joined
    frames, once = mended_frames(whole), reference(part)
    assert len(frames) == 2 * len(once)
    steps, own = (np.diff([pts for pts, _ in film]) for film in (frames, once))
    # Matroska counts in milliseconds.
    np.testing.assert_allclose(steps, [*own, NS // 25, *own], atol=2_000_000)
    for number, (_, planes) in enumerate(frames):
        np.testing.assert_array_equal(planes, once[number % len(once)][1])


def test_a_gap_of_time_stays_a_gap(joined_ts, tmp_path):
    part, _ = joined_ts
    gap = render(tmp_path / "gap.ts", ticks=[40 * k + 20_000 * (k >= 25) for k in range(50)])
    frames = mended_frames(written(tmp_path, gap.read_bytes() + part.read_bytes()))
    assert max(np.diff([pts for pts, _ in frames])) == pytest.approx(20.04 * NS, abs=2_000_000)


def test_a_mended_copy_is_the_same_each_time(joined_ts):
    with joined_ts[1].open("rb") as file:
        with repaired(file, SPEC) as first, repaired(file, SPEC) as second:
            assert first.read() == second.read() != b""
        assert file.seek(7) == file.tell() == 7
        assert file.read(400) == joined_ts[1].read_bytes()[7:407]


def test_a_copy_that_would_hide_damage_is_refused(joined_ts, tmp_path):
    data = joined_ts[1].read_bytes()
    cut = len(data) // TS_PACKET // 4 * TS_PACKET
    bad = refusal(written(tmp_path, data[:cut] + data[cut + 5 * TS_PACKET :]))
    assert (bad.reason, "would hide" in bad.detail) == (Reason.DAMAGED, True)


@pytest.mark.parametrize(("name", "words"), [("a.ts", "do not jump back"), ("a.mkv", "not for matroska")])
def test_what_no_repair_is_known_for_is_refused(name, words, tmp_path):
    bad = refusal(render(tmp_path / name))
    assert bad.reason is Reason.BAD_TIMESTAMPS
    assert words in bad.detail


def test_what_ffmpeg_cannot_copy_is_told_in_its_words(joined_ts, monkeypatch):
    monkeypatch.setattr(salvage, "DEMUXERS", ("avi",))
    bad = refusal(joined_ts[1])
    assert bad.reason is Reason.DECODE_ERROR
    assert "whitelist" in bad.detail


def test_a_copy_never_outgrows_the_file(joined_ts, monkeypatch):
    monkeypatch.setattr(salvage, "_SPARE_BYTES", -joined_ts[1].stat().st_size + 4096)
    assert refusal(joined_ts[1]).reason is Reason.DECODE_ERROR


def test_no_protocol_but_the_open_files_is_known(joined_ts):
    command = salvage._command(5, 0, 6)
    allowed = {command[k + 1] for k, word in enumerate(command) if word == "-protocol_whitelist"}
    assert allowed == {"fd"}
    assert [word for word in command[1:] if "/" in word or word.endswith(".ts")] == []


def test_nothing_is_left_behind(joined_ts, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with joined_ts[1].open("rb") as file, repaired(file, SPEC) as mended:
        assert mended.read(4) == b"\x1aE\xdf\xa3"
        assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return value


def is_sleeping(pid):
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00300\x00"  # empty once it has ended
    return False


def hang(path):
    with pytest.MonkeyPatch.context() as patch, Path(path).open("rb") as file:
        patch.setattr(salvage, "_command", lambda *_: ["sleep", "300"])
        with repaired(file, SPEC):
            pass


def test_ffmpeg_dies_with_a_process_that_is_killed_alone(joined_ts):
    program = f"import test_salvage; test_salvage.hang({str(joined_ts[1])!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        started = wait_for(lambda: [int(pid) for pid in children.read_text().split() if is_sleeping(int(pid))])
        process.kill()
    assert wait_for(lambda: not is_sleeping(started[0]))


def test_a_copy_that_takes_too_long_is_ended(joined_ts, monkeypatch):
    monkeypatch.setattr(salvage, "_command", lambda *_: ["sleep", "300"])
    begun = time.monotonic()
    assert refusal(joined_ts[1], DecodeSpec(deadline_s=0.2)).reason is Reason.DECODE_TIMEOUT
    assert time.monotonic() - begun < 2
