"""The clips of one film: which frames, what becomes of damaged ones, and their pixels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.backend import FilmReader, ShownFrame, open_film
from pipeline.decode.grid import NS, ClipPlan, plan_clips, plan_released
from pipeline.decode.media import BadMedia
from pipeline.decode.salvage import repaired
from schemas.arrays import ClipTimes
from schemas.media import DecodeSpec, Preprocessing
from schemas.rejection import Reason
from schemas.sample import MediaRef

Read = TypeVar("Read")

Squares = dict[str, NDArray[np.uint8]]
"""One frame for each encoder: `[size, size, 3] uint8`."""


@dataclass(frozen=True)
class Clips:
    """What a medium gave.

    Attributes:
        times: Of the clips kept.
        frames: The pixels of their frames, one clip behind the other.
        dropped: Clips left out for damage.
        salvaged: They come from a repaired file.
    """

    times: tuple[ClipTimes, ...]
    frames: tuple[Squares, ...]
    dropped: int = 0
    salvaged: bool = False


def film_clips(
    file: BufferedReader, medium: MediaRef, index: int, spec: DecodeSpec, preprocessing: Mapping[str, Preprocessing]
) -> Clips:
    """The clips of the span of `medium`, number `index` of its sample, under `spec.on_damage`. Raises BadMedia."""
    clips, salvaged = read_or_repair(lambda film: _clips(film, medium, index, spec, preprocessing), file, spec)
    return replace(clips, salvaged=salvaged)


def read_or_repair(
    read: Callable[[BufferedReader], Read], file: BufferedReader, spec: DecodeSpec
) -> tuple[Read, bool]:
    """What `read` finds in the film, and whether it took a repair, which is tried where `repaired` may help."""
    try:
        return read(file), False
    except BadMedia as bad:
        if spec.on_damage != "salvage" or bad.reason is not Reason.BAD_TIMESTAMPS:
            raise
    with repaired(file, spec) as mended:
        return read(mended), True


def check_duration(duration_ns: int, spec: DecodeSpec) -> None:
    """Raises BadMedia: TOO_SHORT, TOO_LARGE."""
    if duration_ns <= 0:
        raise BadMedia(Reason.TOO_SHORT, f"the film lasts {duration_ns} ns: nothing of it can be shown")
    if duration_ns > spec.max_duration_s * NS:
        raise BadMedia(
            Reason.TOO_LARGE,
            f"the film lasts {duration_ns / NS:.0f} s, more than decode.max_duration_s = {spec.max_duration_s}",
        )


def _clips(
    file: BufferedReader, medium: MediaRef, index: int, spec: DecodeSpec, preprocessing: Mapping[str, Preprocessing]
) -> Clips:
    with open_film(file, spec) as film:
        plan = _planned(film, medium, spec)
        # Clips may overlap, and the frames of a short film repeat: each frame is made once.
        times_ns = sorted({t for clip in plan for t in clip.t_ns})
        shown = _shown(film, times_ns, preprocessing, drop=spec.on_damage != "reject")
    kept = [clip for clip in plan if all(t in shown for t in clip.t_ns)]
    if not kept:
        raise BadMedia(Reason.DAMAGED, f"each of its {len(plan)} clips holds a damaged frame: {_FETCH_AGAIN}")
    times = [
        ClipTimes(
            medium=index, start_ns=clip.start_ns, exclusive_end_ns=clip.exclusive_end_ns,
            t_ns=clip.t_ns, pts_ns=tuple(shown[t][0] for t in clip.t_ns),
        )
        for clip in kept
    ]  # fmt: skip
    frames = [shown[t][1] for clip in kept for t in clip.t_ns]
    return Clips(tuple(times), tuple(frames), dropped=len(plan) - len(kept))


def _planned(film: FilmReader, medium: MediaRef, spec: DecodeSpec) -> tuple[ClipPlan, ...]:
    duration_ns = medium.duration_ns or film.duration_ns()
    check_duration(duration_ns, spec)
    start_ns, end_ns = medium.start_ns, medium.exclusive_end_ns or duration_ns
    if start_ns >= end_ns:
        raise BadMedia(Reason.TOO_SHORT, f"the span starts at {start_ns} ns, but the film ends at {end_ns} ns")
    if spec.sampling != "released_compat":
        return plan_clips(start_ns, end_ns, spec)
    times_ns, rate = film.frame_times_ns(), film.average_rate()
    try:
        return plan_released(times_ns, rate, start_ns, end_ns, spec)
    except ValueError as error:
        raise BadMedia(Reason.TOO_SHORT, str(error)) from error


def _shown(
    film: FilmReader, times_ns: Sequence[int], preprocessing: Mapping[str, Preprocessing], *, drop: bool
) -> dict[int, tuple[int, Squares]]:
    """For each time the presentation time and the pixels of its frame; damaged ones are left out.

    Raises BadMedia: DAMAGED, unless `drop`.
    """
    found: dict[int, tuple[int, Squares]] = {}
    last: ShownFrame | None = None
    for t_ns, shown in zip(times_ns, film.shown_at(times_ns), strict=True):
        if shown.damaged:
            if not drop:
                raise BadMedia(Reason.DAMAGED, f"the frame at {shown.pts_ns} ns is damaged: {_FETCH_AGAIN}")
            continue
        if last is None or shown is not last:
            last, made = shown, (shown.pts_ns, {name: shown.picture.square(p) for name, p in preprocessing.items()})
        found[t_ns] = made
    return found


_FETCH_AGAIN = "fetch the file again, or set decode.on_damage"
