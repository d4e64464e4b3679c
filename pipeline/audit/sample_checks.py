"""What must hold of each sample alone. One check a function; its docstring gives the reason.

A check yields (code, message) for each defect; the promise is the ledger, None where it cannot be read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.arrays import all_finite, parse_npy
from pipeline.audit.findings import Code
from pipeline.audit.gates import barred_annotator, barred_generator, barred_licence
from pipeline.audit.pictures import picture_sizes
from pipeline.audit.repeats import is_declared
from pipeline.audit.scan import TarSample
from schemas.arrays import ClipTimes, EncoderProvenance
from schemas.base import digest
from schemas.conversation import Role
from schemas.ledger import Ledger, ShardSample
from schemas.sample import Modality

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Opened:
    """A sample of a tar whose members could all be parsed."""

    shard: str
    key: str
    """As the tar's member names have it."""
    record: ShardSample
    arrays: dict[str, NDArray[Any]]
    """By suffix."""
    pictures: dict[str, list[tuple[int, int]]]
    """(width, height) of JPEG pictures, by suffix."""
    tokens: int | None = None
    """Of its turns, counted anew; None where they were not."""


Defects = Iterator[tuple[Code, str]]
Check = Callable[[Opened, Ledger | None], Defects]


def open_members(found: TarSample, record: ShardSample) -> tuple[Opened, list[tuple[Code, str]]]:
    """The sample with its arrays and pictures, and what is wrong with those that are left out."""
    opened, defects = Opened(found.shard, found.key, record, {}, {}), []
    for suffix, _, payload in found.members:
        if payload is None:
            continue
        try:
            if suffix.endswith(".npy"):
                opened.arrays[suffix] = parse_npy(payload)
            elif suffix.endswith(".mjpeg"):
                opened.pictures[suffix] = picture_sizes(bytes(payload))
        except ValueError as error:
            defects.append((Code.ARRAY_INVALID, f"{suffix}: {error}"))
    return opened, defects


def check_place(opened: Opened, _: Ledger | None) -> Defects:
    """A sample's JSON must be of the key and the split that its tar says, or filters by name mislead."""
    record, split = opened.record, opened.shard.removeprefix("shards/").partition("-")[0]
    if (record.key, record.split.value) != (opened.key, split):
        yield (
            Code.JSON_MISPLACED,
            f"json is of {record.key} ({record.split}), its members of {opened.key} ({split})",
        )


def check_modality(opened: Opened, _: Ledger | None) -> Defects:
    """The modality decides the share, so it must follow from the media and not from the label alone."""
    record, kinds = opened.record, [medium.kind for medium in opened.record.media]
    expected = {
        Modality.TEXT: not kinds,
        Modality.IMAGE: kinds == ["image"],
        Modality.MULTI_IMAGE: len(kinds) > 1 and set(kinds) == {"image"},
        Modality.VIDEO: kinds == ["video"],
    }
    if not expected[record.modality]:
        yield Code.MODALITY_BELIED, f"labelled {record.modality}, but its media are {kinds}"
    if bool(kinds) != bool(record.clips):
        yield Code.MODALITY_BELIED, f"{len(kinds)} media, but {len(record.clips)} clips"


def check_licence(opened: Opened, _: Ledger | None) -> Defects:
    """Without a licence nobody may train on it."""
    if not opened.record.licence.strip():
        yield Code.LICENCE_EMPTY, f"no licence (source {opened.record.source})"


def check_gates(opened: Opened, ledger: Ledger | None) -> Defects:
    """What the recipe shuts out must not be trained on, wherever it slipped in."""
    if ledger is None or ledger.gates.is_open:
        return
    record, licences, annotators = opened.record, ledger.gates.licences, ledger.gates.annotators
    if part := barred_licence(licences, record.licence):
        yield Code.LICENCE_BARRED, f"licence {record.licence!r}: the recipe's gate bars {part}"
    if name := barred_annotator(annotators, record.annotator):
        yield Code.ANNOTATOR_BARRED, f"annotated by {record.annotator.name!r}: the recipe's gate bars {name!r}"
    if name := barred_generator(annotators, record.generator):
        yield Code.GENERATOR_BARRED, f"its talk is by {record.generator.name!r}: the recipe's gate bars {name!r}"


def check_roles(opened: Opened, _: Ledger | None) -> Defects:
    """Chat templates need user and assistant to alternate; a loss on nothing is silent otherwise."""
    roles = [turn.role for turn in opened.record.conversations]
    if roles != [Role.USER, Role.ASSISTANT] * (len(roles) // 2):
        yield Code.ROLES_BROKEN, f"roles are {[str(role) for role in roles]}, must be user, assistant in turn"


def check_text(opened: Opened, _: Ledger | None) -> Defects:
    """A text belongs to its video (law 8): its digest takes in the key and the binding of the media."""
    record = opened.record
    turns = [{"role": turn.role.value, "content": turn.content} for turn in record.conversations]
    found = digest([opened.key, record.binding_sha256, turns])
    if found != record.text_sha256:
        yield Code.TEXT_UNBOUND, f"its conversation has digest {found}, the sample names {record.text_sha256}"


def check_epoch(opened: Opened, _: Ledger | None) -> Defects:
    """A later pass over a source says so in its key, so that its original can be told."""
    if not is_declared(opened.record):
        epoch = opened.record.epoch
        yield Code.EPOCH_WITHOUT_ORIGINAL, f"says epoch {epoch}, its key must end in -e{epoch}"


def check_tokens(opened: Opened, ledger: Ledger | None) -> Defects:
    """A share of tokens is a share of what was counted: by the named tokenizer, or by none and then nothing."""
    told = opened.record.llm_tokens
    if ledger is not None and not ledger.tokenizer_sha256 and told:
        yield Code.TOKENS_UNPROVEN, f"says {told} LLM tokens, the ledger names no tokenizer"
    if opened.tokens not in (None, told):
        yield Code.TOKENS_DIFFER, f"its turns have {opened.tokens} LLM tokens, it says {told}"


def check_times(opened: Opened, ledger: Ledger | None) -> Defects:
    """The model is told a frame rate; frames on another grid teach it wrong time.

    Frame i is asked 1/fps after frame i - 1, or, behind the end of the span, at the same time again. Other
    samplings promise less: `uniform` equal steps inside a clip, `released_compat` frames in their order.
    """
    if ledger is None:
        return
    for number, clip in enumerate(opened.record.clips):
        if not _as_sampled(clip, ledger):
            yield (
                Code.TIMES_OFF_GRID,
                f"clip {number} of [{clip.start_ns}, {clip.exclusive_end_ns}) ns asks for {clip.t_ns}, "
                f"which is not a frame each 1/{ledger.fps} s (sampling {ledger.sampling})",
            )


def check_clips(opened: Opened, _: Ledger | None) -> Defects:
    """A clip lies within the span of a medium that the sample names; a picture is one clip of one frame."""
    media = opened.record.media
    for number, clip in enumerate(opened.record.clips):
        if clip.medium >= len(media):
            yield Code.CLIP_OUTSIDE, f"clip {number} is of medium {clip.medium}, the sample has {len(media)}"
            continue
        medium = media[clip.medium]
        end_ns = medium.exclusive_end_ns or medium.duration_ns
        if medium.kind == "image":
            inside = len(clip.t_ns) == 1
        else:
            inside = medium.start_ns <= clip.start_ns < clip.exclusive_end_ns <= end_ns
        if not inside:
            span = f"[{clip.start_ns}, {clip.exclusive_end_ns}) ns with {len(clip.t_ns)} frames"
            yield (
                Code.CLIP_OUTSIDE,
                f"clip {number}, {span}, is not in its {medium.kind} [{medium.start_ns}, {end_ns})",
            )


def check_encoders(opened: Opened, ledger: Ledger | None) -> Defects:
    """Features of two encoders look alike and must never be mixed: every sample names the ledger's."""
    if ledger is not None and opened.record.encoders != ledger.in_shards:
        yield Code.ENCODERS_DIFFER, f"names {opened.record.encoders}, the ledger {ledger.in_shards}"


def check_feature_shapes(opened: Opened, _: Ledger | None) -> Defects:
    """`[clips, time, height, width, channels]` of the dtype and on the grid that the provenance claims.

    Time may be 1 for a clip of one frame: an image seen by an encoder of frames. A scale has one channel.
    """
    for encoder in opened.record.encoders:
        for column, dtype, width in _promised_columns(encoder):
            array = opened.arrays.get(f"{column}.npy")
            if array is None:
                continue
            if array.dtype != dtype:
                yield Code.FEATURE_SHAPE, f"{column} is {array.dtype}, must be {dtype}"
            if not _fits(array.shape, encoder, width, opened.record.clips):
                yield (
                    Code.FEATURE_SHAPE,
                    f"{column} has shape {array.shape}; {len(opened.record.clips)} clips on grid "
                    f"{encoder.grid} of width {width} were promised",
                )


def check_finite(opened: Opened, _: Ledger | None) -> Defects:
    """One NaN or infinity in a feature is a NaN loss, hours into training."""
    for suffix, array in opened.arrays.items():
        if array.dtype.kind == "f" and not all_finite(array):
            bad = int(array.size - np.isfinite(array).sum())
            yield Code.FEATURE_NOT_FINITE, f"{suffix} holds {bad} values that are NaN or infinite"


def check_frames(opened: Opened, ledger: Ledger | None) -> Defects:
    """Frames of every clip for films of the categories promised, none elsewhere.

    `rawvideo` is uint8 `[clips, frames, side, side, 3]`, `mjpeg` as many square pictures of one size.
    """
    if ledger is None:
        return
    record = opened.record
    wanted = record.modality is Modality.VIDEO and record.category in ledger.frames_for
    clips = record.clips if wanted else ()
    counts = {len(clip.t_ns) for clip in clips}
    for encoder in ledger.encoders:
        sizes = opened.pictures.get(f"{encoder.name}.frames.mjpeg")
        if sizes is not None:
            frames = sum(len(clip.t_ns) for clip in clips)
            if len(sizes) != frames or len(set(sizes)) > 1 or any(width != height for width, height in sizes):
                yield (
                    Code.FRAMES_SHAPE,
                    f"{encoder.name} frames are {len(sizes)} pictures of sizes {sorted(set(sizes))}; {frames} "
                    "square ones of one size were promised",
                )
        array = opened.arrays.get(f"{encoder.name}.frames.npy")
        if array is None:
            continue
        fits = (
            array.dtype == np.uint8
            and array.ndim == 5
            and array.shape[0] == len(clips)
            and counts <= {array.shape[1]}
            and array.shape[2] == array.shape[3] > 0
            and array.shape[4] == 3
        )
        if not fits:
            yield (
                Code.FRAMES_SHAPE,
                f"{encoder.name} frames are {array.dtype} {array.shape}; {len(clips)} clips of {sorted(counts)} "
                "frames were promised, uint8 [clips, frames, side, side, 3]",
            )


def _as_sampled(clip: ClipTimes, ledger: Ledger) -> bool:
    steps = [after - before for before, after in pairwise(clip.t_ns)]
    match ledger.sampling:
        case "fps":
            return _on_grid(clip, ledger.fps)
        case "uniform":  # each time is floored to a nanosecond
            return all(step >= 0 and step - min(steps) <= 1 for step in steps)
        case "released_compat":
            return all(step >= 0 for step in steps)


def _on_grid(clip: ClipTimes, fps: Fraction) -> bool:
    """Times are floored to nanoseconds, so each may lie up to 1 ns beside the exact one."""
    if clip.t_ns[0] != clip.start_ns:
        return False
    for index, (before, t) in enumerate(pairwise(clip.t_ns), start=1):
        exact = clip.start_ns + index * _SECOND_NS / fps
        repeats = t == before and exact + 1 > clip.exclusive_end_ns
        if not repeats and not (abs(t - exact) <= 1 and t < clip.exclusive_end_ns):
            return False
    return True


def _promised_columns(encoder: EncoderProvenance) -> tuple[tuple[str, str, int], ...]:
    """Name, dtype and channels of each array."""
    features = (encoder.name, encoder.stored, encoder.width)
    return (features, (f"{encoder.name}.scale", "float16", 1)) if encoder.stored == "int8" else (features,)


def _fits(shape: tuple[int, ...], encoder: EncoderProvenance, channels: int, clips: tuple[ClipTimes, ...]) -> bool:
    time, height, width = encoder.grid
    one_frame = all(len(clip.t_ns) == 1 for clip in clips)
    return (
        len(shape) == 5
        and shape[0] == len(clips)
        and (shape[1] == time or (one_frame and shape[1] == 1))
        and shape[2:] == (height, width, channels)
    )


SAMPLE_CHECKS: tuple[Check, ...] = (
    check_place,
    check_modality,
    check_licence,
    check_gates,
    check_roles,
    check_text,
    check_epoch,
    check_tokens,
    check_times,
    check_clips,
    check_encoders,
    check_feature_shapes,
    check_finite,
    check_frames,
)
COLUMN_CHECKS: tuple[Check, ...] = (check_feature_shapes, check_finite, check_frames)
"""Of a column's members, beside the record of the sample whose column it is."""
