"""What runs in the decoding process: stateless functions over plain files.

Both open their file with `open_plain` and answer with a value also for bad media, so that whatever
they raise is a bug.
"""

import hashlib
from collections.abc import Iterator, Mapping
from io import BufferedReader
from math import floor

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.film import Film
from pipeline.decode.grid import NS, clip_duration_ns, plan_clips
from pipeline.decode.images import image_size, load_image
from pipeline.decode.media import BadMedia, open_plain
from pipeline.decode.picture import Picture, square
from schemas.arrays import ClipTimes, Frames, FramesMeta
from schemas.media import DecodeSpec, Preprocessing
from schemas.rejection import Reason, Rejection
from schemas.sample import MediaRef, Sample

STAGE = "decode"

Squares = dict[str, NDArray[np.uint8]]
"""One frame for each encoder: `[size, size, 3] uint8`."""


def decode_sample(
    sample: Sample, root: str, spec: DecodeSpec, preprocessing: Mapping[str, Preprocessing]
) -> Frames | Rejection:
    """Every clip of a sample, sized for every encoder; media lie under `root`."""
    clips: list[ClipTimes] = []
    frames: list[Squares] = []
    for index, medium in enumerate(sample.media):
        decode = _decode_image if medium.kind == "image" else _decode_film
        try:
            with open_plain(root, medium.path) as file:
                times, squares = decode(file, medium, index, spec, preprocessing)
        except BadMedia as bad:
            return rejection(sample, bad.reason, bad.detail, medium.path)
        clips += times
        frames += squares
    pixels = {name: _stack([f[name] for f in frames], len(clips), p.size) for name, p in preprocessing.items()}
    return Frames(FramesMeta(key=sample.key, clips=tuple(clips)), pixels)


def probe_medium(root: str, path: str, kind: str, spec: DecodeSpec) -> dict[str, int | str] | tuple[Reason, str]:
    """The `MediaRef` fields that a file tells: sha256, size_bytes, width, height, duration_ns.

    Width and height are as displayed; a film's first frame is decoded for them. Answers a reason and
    its detail for a file that cannot be used.
    """
    try:
        with open_plain(root, path) as file:
            facts = _image_facts(file, spec) if kind == "image" else _film_facts(file, spec)
            size_bytes = file.seek(0, 2)
            file.seek(0)
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size_bytes": size_bytes, **facts}
    except BadMedia as bad:
        return bad.reason, bad.detail


def rejection(sample: Sample, reason: Reason, detail: str, where: str) -> Rejection:
    """A rejection of this stage."""
    return Rejection(
        key=sample.key, stage=STAGE, reason=reason, detail=detail[:2000], where=where, source=sample.source
    )


def _decode_image(
    file: BufferedReader, medium: MediaRef, index: int, spec: DecodeSpec, preprocessing: Mapping[str, Preprocessing]
) -> tuple[list[ClipTimes], list[Squares]]:
    """One clip of one frame at 0, whose span is a clip's: a picture is shown for as long."""
    end_ns = floor(clip_duration_ns(spec))
    clip = ClipTimes(medium=index, start_ns=0, exclusive_end_ns=end_ns, t_ns=(0,), pts_ns=(0,))
    return [clip], [_squares(load_image(file, spec), preprocessing)]


def _decode_film(
    file: BufferedReader, medium: MediaRef, index: int, spec: DecodeSpec, preprocessing: Mapping[str, Preprocessing]
) -> tuple[list[ClipTimes], list[Squares]]:
    with Film(file, spec) as film:
        duration_ns = medium.duration_ns or film.duration_ns()
        _check_duration(duration_ns, spec)
        start_ns, end_ns = medium.start_ns, medium.exclusive_end_ns or duration_ns
        if start_ns >= end_ns:
            raise BadMedia(Reason.TOO_SHORT, f"the span starts at {start_ns} ns, but the film ends at {end_ns} ns")
        plan = plan_clips(start_ns, end_ns, spec)
        shown = list(_shown_squares(film, [t for clip in plan for t in clip.t_ns], preprocessing))
    pts = iter(pts_ns for pts_ns, _ in shown)
    clips = [
        ClipTimes(
            medium=index, start_ns=clip.start_ns, exclusive_end_ns=clip.exclusive_end_ns,
            t_ns=clip.t_ns, pts_ns=tuple(next(pts) for _ in clip.t_ns),
        )
        for clip in plan
    ]  # fmt: skip
    return clips, [squares for _, squares in shown]


def _shown_squares(
    film: Film, times_ns: list[int], preprocessing: Mapping[str, Preprocessing]
) -> Iterator[tuple[int, Squares]]:
    """Presentation time and pixels for each time; a frame shown twice is converted once."""
    last, squares = None, {}
    for shown in film.shown_at(times_ns):
        if shown is not last:
            last, squares = shown, _squares(film.picture(shown), preprocessing)
        yield shown.pts_ns, squares


def _squares(picture: Picture, preprocessing: Mapping[str, Preprocessing]) -> Squares:
    return {name: square(picture, p) for name, p in preprocessing.items()}


def _stack(frames: list[NDArray[np.uint8]], clips: int, size: int) -> NDArray[np.uint8]:
    """`[clips, frames, size, size, 3] uint8`; `[0, 0, size, size, 3]` where there is no clip."""
    if not clips:
        return np.zeros((0, 0, size, size, 3), np.uint8)
    return np.stack(frames).reshape(clips, len(frames) // clips, size, size, 3)


def _check_duration(duration_ns: int, spec: DecodeSpec) -> None:
    if duration_ns <= 0:
        raise BadMedia(Reason.TOO_SHORT, f"the film lasts {duration_ns} ns: nothing of it can be shown")
    if duration_ns > spec.max_duration_s * NS:
        raise BadMedia(
            Reason.TOO_LARGE,
            f"the film lasts {duration_ns / NS:.0f} s, more than decode.max_duration_s = {spec.max_duration_s}",
        )


def _image_facts(file: BufferedReader, spec: DecodeSpec) -> dict[str, int]:
    width, height = image_size(file, spec)
    return {"width": width, "height": height, "duration_ns": 0}


def _film_facts(file: BufferedReader, spec: DecodeSpec) -> dict[str, int]:
    with Film(file, spec) as film:
        duration_ns = film.duration_ns()
        _check_duration(duration_ns, spec)
        width, height = film.displayed_size()
    return {"width": width, "height": height, "duration_ns": duration_ns}
