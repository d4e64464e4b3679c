"""What runs in the decoding process: stateless functions over plain files.

Both open their file with `open_plain` and answer with a value also for bad media, so that whatever
they raise is a bug.
"""

import hashlib
from collections.abc import Mapping, Sequence
from io import BufferedReader
from math import floor

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.backend import open_film
from pipeline.decode.film_clips import Clips, Squares, check_duration, film_clips, read_or_repair
from pipeline.decode.grid import clip_duration_ns
from pipeline.decode.images import image_size, load_image
from pipeline.decode.media import BadMedia, open_plain
from pipeline.decode.mjpeg import to_mjpeg
from schemas.arrays import ClipTimes, Frames, FramesMeta
from schemas.media import DecodeSpec, Preprocessing
from schemas.recipe import ShardsSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import MediaRef, Sample

STAGE = "decode"

WITHOUT_FRAMES = ShardsSpec()


def decode_sample(
    sample: Sample,
    root: str,
    spec: DecodeSpec,
    preprocessing: Mapping[str, Preprocessing],
    shards: ShardsSpec = WITHOUT_FRAMES,
    check_digests: bool = False,
) -> Frames | Rejection:
    """Every clip of a sample, sized for every encoder; media lie under `root`; the rest is as in `Decode`."""
    found: list[Clips] = []
    for index, medium in enumerate(sample.media):
        decode = _image_clips if medium.kind == "image" else film_clips
        try:
            with open_plain(root, medium.path) as file:
                _check_unchanged(file, medium, check_digests)
                found.append(decode(file, medium, index, spec, preprocessing))
        except BadMedia as bad:
            return rejection(sample, bad.reason, bad.detail, medium.path)
    kept = shards.carries_frames(sample.modality, sample.category)
    meta = FramesMeta(
        key=sample.key,
        kept=kept,
        clips=tuple(clip for clips in found for clip in clips.times),
        dropped_clips=sum(clips.dropped for clips in found),
        salvaged=any(clips.salvaged for clips in found),
    )
    frames = [squares for clips in found for squares in clips.frames]
    pixels = {name: _stack(frames, name, len(meta.clips), p.size) for name, p in preprocessing.items()}
    if not kept or shards.frames_codec == "rawvideo":
        return Frames(meta, pixels)
    return Frames(meta, pixels, {name: to_mjpeg(each, shards.frames_quality) for name, each in pixels.items()})


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


def _check_unchanged(file: BufferedReader, medium: MediaRef, check_digests: bool) -> None:
    size_bytes = file.seek(0, 2)
    file.seek(0)
    if medium.size_bytes and size_bytes != medium.size_bytes:
        raise BadMedia(
            Reason.CHANGED,
            f"the file has {size_bytes} bytes, but had {medium.size_bytes} when it was ingested: build anew",
        )
    if check_digests and medium.sha256 and hashlib.file_digest(file, "sha256").hexdigest() != medium.sha256:
        raise BadMedia(
            Reason.CHANGED, "the file has other bytes than when it was ingested: put it back, or build anew"
        )


def _image_clips(
    file: BufferedReader, medium: MediaRef, index: int, spec: DecodeSpec, preprocessing: Mapping[str, Preprocessing]
) -> Clips:
    """One clip of one frame at 0, whose span is a clip's: a picture is shown for as long."""
    end_ns = floor(clip_duration_ns(spec))
    clip = ClipTimes(medium=index, start_ns=0, exclusive_end_ns=end_ns, t_ns=(0,), pts_ns=(0,))
    picture = load_image(file, spec)
    return Clips((clip,), ({name: picture.square(p) for name, p in preprocessing.items()},))


def _stack(frames: Sequence[Squares], name: str, clips: int, size: int) -> NDArray[np.uint8]:
    """`[clips, frames, size, size, 3] uint8`; `[0, 0, size, size, 3]` where there is no clip."""
    if not clips:
        return np.zeros((0, 0, size, size, 3), np.uint8)
    return np.stack([squares[name] for squares in frames]).reshape(clips, len(frames) // clips, size, size, 3)


def _image_facts(file: BufferedReader, spec: DecodeSpec) -> dict[str, int]:
    width, height = image_size(file, spec)
    return {"width": width, "height": height, "duration_ns": 0}


def _film_facts(file: BufferedReader, spec: DecodeSpec) -> dict[str, int]:
    facts, _ = read_or_repair(lambda film: _facts(film, spec), file, spec)
    return facts


def _facts(file: BufferedReader, spec: DecodeSpec) -> dict[str, int]:
    with open_film(file, spec) as film:
        duration_ns = film.duration_ns()
        check_duration(duration_ns, spec)
        width, height = film.displayed_size()
    return {"width": width, "height": height, "duration_ns": duration_ns}
