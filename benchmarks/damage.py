"""Headline: of the frames that flipped bits spoil to the eye, the share that decoding calls damaged.

Films of 640x360 (`decode_footage.py`), one a codec. Each of `--films` copies gets 1 to 20 flipped bits at random
places in its media data. Its frames at 2 fps are held against those of the sound film: spoilt to the eye is one
whose luma is off by more than 2 levels in the mean, or by more than 20 in any block of 16x16.

    python benchmarks/damage.py                two minutes
    python benchmarks/damage.py --films 100 --out FILE.md
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from decode import machine
from decode_footage import CODECS, Clip, film

MEAN, BLOCK = 2, 20


def luma(path: Path, times_ns: list[int]) -> list[tuple[bool, "np.ndarray"]] | None:
    """Whether called damaged, and the luma plane, of the frame at each time; None for a film that is refused."""
    from pipeline.decode.film import Film
    from pipeline.decode.media import BadMedia, open_plain
    from schemas.media import DecodeSpec

    try:
        with open_plain(str(path.parent), path.name) as file, Film(file, DecodeSpec()) as opened:
            shown = list(opened.shown_at(times_ns))
            planes = [s.picture.frame.reformat(format="gray", threads=1).to_ndarray() for s in shown]  # type: ignore[attr-defined]
            return [(s.damaged, plane) for s, plane in zip(shown, planes, strict=True)]
    except BadMedia:
        return None


def is_spoilt(plane: "np.ndarray", sound: "np.ndarray") -> bool:
    """To the eye."""
    if plane.shape != sound.shape:
        return True
    off = np.abs(plane.astype(float) - sound)
    height, width = (side // 16 * 16 for side in off.shape)
    blocks = off[:height, :width].reshape(height // 16, 16, width // 16, 16).mean(axis=(1, 3))
    return bool(off.mean() > MEAN or blocks.max() > BLOCK)


def flipped(data: bytes, spans: list[tuple[int, int]], dice: random.Random) -> bytes:
    """With 1 to 20 bits of the packets at `spans` (offset, size) turned."""
    broken = bytearray(data)
    for _ in range(dice.randint(1, 20)):
        offset, size = dice.choice(spans)
        broken[offset + dice.randrange(size)] ^= 1 << dice.randrange(8)
    return bytes(broken)


def measured(codec: str, films: Path, copies: int) -> Counter[str]:
    """Counts over the frames of all copies of one film."""
    import av

    path = film(Clip("bikes", codec, 360, 10), films)
    times_ns = [k * 500_000_000 for k in range(19)]
    with av.open(str(path)) as container:
        spans = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]
    sound, data, dice, found = luma(path, times_ns) or [], path.read_bytes(), random.Random(codec), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(copies):
            broken = Path(folder, f"{number}{path.suffix}")
            broken.write_bytes(flipped(data, spans, dice))
            frames = luma(broken, times_ns)
            found["refused"] += frames is None
            for (told, plane), (_, whole) in zip(frames or (), sound, strict=False):
                spoilt = is_spoilt(plane, whole)
                found["spoilt"] += spoilt
                found["told"] += spoilt and told
                found["false"] += told and not spoilt
                found["frames"] += 1
            broken.unlink()
    return found


def main() -> None:
    """Prints a line a codec; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description="Share of spoilt frames that decoding calls damaged.")
    parser.add_argument("--films", type=int, default=25, help="broken copies of each codec's film")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-films"), help="where films are kept")
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    options = parser.parse_args()
    rows = [
        "| codec | frames | spoilt to the eye | of these told | told, not spoilt | films refused |",
        "|---|---|---|---|---|---|",
    ]
    shares, total = {}, Counter[str]()
    for codec in CODECS:
        found = measured(codec, options.folder, options.films)
        total += found
        shares[codec] = found["told"] / found["spoilt"] if found["spoilt"] else None
        told = "-" if shares[codec] is None else f"{shares[codec]:.2f}"
        rows.append(
            f"| {codec} | {found['frames']} | {found['spoilt']} | {told} | {found['false']} | {found['refused']} |"
        )
        print(rows[-1], flush=True)
    headline = json.dumps({"told": total["told"] / total["spoilt"], **{f"told_{k}": v for k, v in shares.items()}})
    text = f"# Damage that is told\n\n{machine()}\n\n" + "\n".join(rows)
    print(f"\n{text}\n\n{headline}")
    if options.out:
        options.out.write_text(f"{text}\n\n    {headline}\n")


if __name__ == "__main__":
    main()
