"""The law of flat memory: a decoding process holds no more after thousands of films than after hundreds."""

import random
import sys
from itertools import cycle, islice

import psutil
import pytest
from decode_films import sample
from film_zoo import build

from pipeline.runtime.isolated import Isolated
from schemas.media import DecodeSpec, Preprocessing
from schemas.rejection import Rejection

WARM_UP, DECODES = 200, 2000
MOST_GROWTH = 1.05
SMALL = {"siglip": Preprocessing(size=56, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))}
NAMES = (
    "b_pyramid.mp4", "open_gop.ts", "x265_b_pyramid.mp4", "svt_hierarchical.mp4", "vp9_alt_ref.webm", "mpeg2_b.ts",
    "mpeg4_b.avi", "mjpeg.avi", "moving.gif", "moving.webp", "variable.mp4", "rotated.mp4", "time_jumps_back.ts",
)  # fmt: skip


@pytest.mark.slow
def test_memory_stays_flat_over_thousands_of_films(tmp_path, capsys):
    zoo = build(tmp_path)
    rng = random.Random(0)
    names = [*NAMES, "text.mp4"]
    (tmp_path / "text.mp4").write_text("This is no film.\n" * 100)
    for name in NAMES[:8]:
        data = bytearray(zoo[name].read_bytes())
        for _ in range(30):
            data[rng.randrange(len(data) // 10, len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / f"broken-{name}").write_bytes(data)
        names.append(f"broken-{name}")
    spec, rejected, resident = DecodeSpec(), 0, {}
    with Isolated("pipeline.decode.worker:decode_sample", deadline_s=20, memory_mb=4096) as child:
        pid = child.pid
        for number, name in enumerate(islice(cycle(names), DECODES), start=1):
            rejected += isinstance(child.call(sample(name), str(tmp_path), spec, SMALL), Rejection)
            if number in (WARM_UP, DECODES):
                resident[number] = psutil.Process(child.pid).memory_info().rss
        assert child.pid == pid, "one process served all"
    with capsys.disabled():
        figures = ", ".join(f"{rss / 2**20:.1f} MiB after {number} films" for number, rss in resident.items())
        sys.stdout.write(f"\n{figures}; {rejected} rejected\n")
    assert 0 < rejected < DECODES / 2
    assert resident[DECODES] <= MOST_GROWTH * resident[WARM_UP]
