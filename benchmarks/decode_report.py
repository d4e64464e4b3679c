"""What the decode benchmark says: ratios, faults of time, tables and the headline."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median
from typing import Any

from decode_footage import Truth
from decode_peers import DOES_LESS, PEERS

NO_RIVALS = ("ours", "floor", *DOES_LESS)

Pair = tuple[dict[str, Any], dict[str, Any]]
"""Answers of ours and of a peer (`decode_peers.measured`), one after the other."""


@dataclass(frozen=True)
class Result:
    """A peer in a cell.

    Attributes:
        cpu_s: Median; None where it failed.
        wall_s: Median; None where it failed.
        ratio: Its CPU seconds over ours beside it; None where it failed or brought too few frames.
        pts_error: Greatest |pts - t|, in durations of the true frame; None where nothing tells.
        wrong: How many frames are not the one shown at their time.
        note: What went wrong.
    """

    cpu_s: float | None = None
    wall_s: float | None = None
    ratio: float | None = None
    pts_error: float | None = None
    wrong: int = 0
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A film at a grid of `asked` frames, and what each peer made of it."""

    film: str
    kind: str
    height: int
    fps: float
    asked: int
    shown: Truth
    results: dict[str, Result]

    @property
    def name(self) -> str:
        """Film and grid."""
        return f"{self.film}@{self.fps:g}"

    def ratio(self, family: str) -> float | None:
        """Least CPU ratio of a family's variants (decord-1, decord-auto) that do the whole job."""
        return min((r for name, r in self._rivals() if name.partition("-")[0] == family), default=None)

    def best_rival(self) -> tuple[float, str] | None:
        """Least CPU ratio of all that do the whole job, and whose."""
        return min(((ratio, name) for name, ratio in self._rivals()), default=None)

    def _rivals(self) -> list[tuple[str, float]]:
        return [(name, r.ratio) for name, r in self.results.items() if r.ratio and name not in NO_RIVALS]


def results(pairs: Mapping[str, Sequence[Pair]], times_ns: Sequence[int], shown: Truth) -> dict[str, Result]:
    """Of each peer, and of ours over all pairs."""
    ours = [(ours, ours) for those in pairs.values() for ours, _ in those]
    return {name: result(those, times_ns, shown) for name, those in {"ours": ours, **pairs}.items()}


def result(pairs: Sequence[Pair], times_ns: Sequence[int], shown: Truth) -> Result:
    """Medians, and the frames held against the truth. One failure fails the cell."""
    failure = next((answer["error"] for pair in pairs for answer in reversed(pair) if "error" in answer), "")
    if failure:
        return Result(note=failure)
    ours, peer = ([pair[side] for pair in pairs] for side in (0, 1))
    cpu_s = median(answer["cpu_s"] for answer in peer)
    error, wrong = faults(peer[0], times_ns, shown)
    whole = peer[0]["frames"] >= len(times_ns)
    return Result(
        cpu_s,
        median(answer["wall_s"] for answer in peer),
        cpu_s / median(answer["cpu_s"] for answer in ours) if whole else None,
        error,
        wrong,
        "" if whole else f"{peer[0]['frames']} of {len(times_ns)} frames",
    )


def faults(answer: dict[str, Any], times_ns: Sequence[int], shown: Truth) -> tuple[float | None, int]:
    """Greatest |pts - t| in durations of the true frame, and how many frames are not the true one."""
    pts_ns = shown.pts_ns
    places = answer["places"] or [_nearest(pts_ns, pts) for pts in answer["pts_ns"]]
    errors, wrong = [], 0
    for t_ns, place in zip(times_ns, places, strict=False):
        true = bisect_right(pts_ns, t_ns) - 1
        end_ns = pts_ns[true + 1] if true + 1 < len(pts_ns) else shown.end_ns
        found_ns = pts_ns[min(place, len(pts_ns) - 1)]
        errors.append(abs(found_ns - t_ns) / (end_ns - pts_ns[true]))
        wrong += place != true
    return max(errors, default=None), wrong


def _nearest(pts_ns: Sequence[int], pts: int) -> int:
    after = bisect_right(pts_ns, pts)
    return min((i for i in (after - 1, after) if 0 <= i < len(pts_ns)), key=lambda i: abs(pts_ns[i] - pts))


def summary(cells: Sequence[Cell]) -> dict[str, Any]:
    """The headline. Ratios are CPU seconds of the peer over ours; `floor_ratio` is ours over the floor."""
    full_hd = [cell for cell in cells if cell.height == 1080]
    floors = [r for c in full_hd if c.kind.startswith("h264") if (r := _of(c, "floor"))]
    headline: dict[str, Any] = {"floor_ratio": _round(1 / median(floors)) if floors else None}
    for label, kind in (("nonref70", "h264-nonref70"), ("default", "h264")):
        chosen = [cell for cell in full_hd if cell.kind == kind and cell.fps == 2]
        for family in ("decord", "pyav", "torchcodec", "opencv", "ffmpeg"):
            headline[f"{family}_ratio_{label}"] = _median(cell.ratio(family) for cell in chosen)
        headline[f"decord_scaled_ratio_{label}"] = _median(_of(cell, "decord-scaled") for cell in chosen)
    decords = [cell.ratio("decord") for cell in cells]
    readable = [ratio for ratio in decords if ratio]
    worst = min(((*best, cell.name) for cell in cells if (best := cell.best_rival())), default=None)
    return headline | {
        "worst_cell": dict(zip(("ratio", "peer", "cell"), (_round(worst[0]), *worst[1:]), strict=True))
        if worst
        else None,
        "cells": len(cells),
        "ours_failed": [cell.name for cell in cells if cell.results["ours"].cpu_s is None],
        "geomean_decord": _round(geometric_mean(readable)) if readable else None,
        "decord_failed": len(decords) - len(readable),
        "max_pts_error_frames": {name: _greatest(name, cells) for name in PEERS},
        "wrong_frames": {name: sum(c.results[name].wrong for c in cells if name in c.results) for name in PEERS},
    }


def _of(cell: Cell, name: str) -> float | None:
    return cell.results[name].ratio if name in cell.results else None


def _median(ratios: Iterable[float | None]) -> float | None:
    known = [ratio for ratio in ratios if ratio]
    return _round(median(known)) if known else None


def _greatest(name: str, cells: Iterable[Cell]) -> float | None:
    found = [cell.results[name].pts_error for cell in cells if name in cell.results]
    return max((_round(error) for error in found if error is not None), default=None)


def _round(value: float) -> float:
    return round(value, 3)


def tables(cells: Sequence[Cell]) -> str:
    """Markdown: films, CPU, wall, faults of time, failures."""
    rivals = [name for name in PEERS if name != "ours"]
    films = {cell.film: cell.shown for cell in cells}
    parts = (
        ("## Films", ("film", "frames", "seconds", "keyframes", "kbit/s"), _film_rows(films)),
        (
            "## CPU seconds of a peer over ours (above 1: ours is cheaper)\n\n"
            f"`floor` is the ceiling; {' and '.join(DOES_LESS)} make one size instead of two.",
            ("cell", "frames", "ours, CPU ms", *rivals),
            [[c.name, c.asked, _ms(c.results["ours"].cpu_s), *(_times(_of(c, n)) for n in rivals)] for c in cells],
        ),
        (
            "## Wall milliseconds",
            ("cell", *PEERS),
            [[c.name, *(_ms(c.results[n].wall_s) if n in c.results else "-" for n in PEERS)] for c in cells],
        ),
        (
            "## Greatest |pts - t| in frames / frames that are not the one shown at t",
            ("cell", *PEERS),
            [[c.name, *(_fault(c.results.get(n)) for n in PEERS)] for c in cells],
        ),
    )
    notes = [f"- {c.name}, {name}: {r.note}" for c in cells for name, r in c.results.items() if r.note]
    written = [f"{title}\n\n{_table(head, rows)}" for title, head, rows in parts]
    return "\n\n".join([*written, "## Not done, or in part\n\n" + ("\n".join(notes) or "nothing")])


def _film_rows(films: Mapping[str, Truth]) -> list[list[object]]:
    return [[name, len(t.pts_ns), f"{t.end_ns / 1e9:.2f}", t.keyframes, t.kbit_s] for name, t in films.items()]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _fault(found: Result | None) -> str:
    return "-" if found is None or found.pts_error is None else f"{found.pts_error:.2f} / {found.wrong}"
