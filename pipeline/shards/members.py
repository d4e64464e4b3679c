"""A packed sample and the members it becomes in a tar."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pipeline.shards.tar import MAX_NAME_BYTES, Payload
from schemas.arrays import EncoderProvenance, Features
from schemas.base import InputError
from schemas.conversation import Conversation
from schemas.ledger import ShardSample
from schemas.media import FRAMES_SUFFIXES
from schemas.npy import npy_body, npy_header
from schemas.recipe import Recipe, ShardsSpec
from schemas.sample import QuestionAnswer, Sample


@dataclass(frozen=True)
class Packed:
    """All that the shards hold of one sample: three records of one key, bound together.

    Raises ValueError when they are not of one key, or the talk was made from another sample (law 8).
    """

    sample: Sample
    conversation: Conversation
    features: Features
    """Whole, or in outline: of the right shapes and dtypes, without what the arrays hold."""
    whole: Callable[[], Features] | None = None
    """Reads the features where there is but their outline. Picklable."""

    def __post_init__(self) -> None:
        keys = (self.sample.key, self.conversation.key, self.features.key)
        if len(set(keys)) != 1:
            raise ValueError(f"sample, conversation and features are of keys {keys}: pack records of one key")
        if self.conversation.binding_sha256 != self.sample.binding_sha256():
            raise ValueError(
                f"the conversation of {self.sample.key} was made from other media or annotations: "
                f"its binding is {self.conversation.binding_sha256}, the sample's {self.sample.binding_sha256()}"
            )


@dataclass(frozen=True)
class Member:
    """One file of a sample in a tar: `{key}.{suffix}`."""

    suffix: str
    head: bytes
    """What it begins with; all of it, if there is no body."""
    body: NDArray[Any] | None = None
    """An array, whose memory is the rest."""

    @property
    def size(self) -> int:
        """Bytes. Right of an outline, too."""
        return len(self.head) + (0 if self.body is None else self.body.nbytes)

    @property
    def pieces(self) -> tuple[Payload, ...]:
        """Its bytes, the array's not copied where that can be."""
        return (self.head,) if self.body is None else (self.head, npy_body(self.body))

    @property
    def payload(self) -> bytes:
        """Its bytes in one."""
        return b"".join(self.pieces)


def shard_sample(packed: Packed, encoders: tuple[EncoderProvenance, ...]) -> ShardSample:
    """The JSON member's content; `encoders` are those whose features lie beside it."""
    sample, turns, meta = packed.sample, packed.conversation.turns, packed.features.meta
    return ShardSample(
        key=sample.key,
        source=sample.source,
        modality=sample.modality,
        category=sample.category,
        split=sample.split,
        licence=sample.licence,
        annotator=sample.annotator,
        generator=packed.conversation.generator,
        binding_sha256=packed.conversation.binding_sha256,
        text_sha256=packed.conversation.text_sha256,
        conversations=turns,
        epoch=sample.epoch,
        llm_tokens=packed.conversation.llm_tokens,
        questions=tuple(
            {"question": a.question, "answer": a.answer, "topic": a.topic, "evidence": a.evidence}
            for a in sample.annotations
            if isinstance(a, QuestionAnswer)
        ),
        media=sample.media,
        clips=meta.clips,
        dropped_clips=meta.dropped_clips,
        salvaged=meta.salvaged,
        encoders=encoders,
        storage_loss={name: loss for name, loss in meta.storage_loss.items() if name in {e.name for e in encoders}},
    )


def members(
    record: ShardSample, features: Features, encoders: Sequence[EncoderProvenance], spec: ShardsSpec
) -> list[Member]:
    """The members of a sample in their order: json, features by encoder, frames by encoder.

    The suffixes depend on `encoders` and on whether `spec` carries frames of any sample, never on the sample:
    readers infer a schema from the first samples. Raises ValueError when an array is missing or a
    member's name is too long.
    """
    carried = spec.carries_frames(record.modality, record.category)
    json = Member("json", record.canonical().encode())
    found = [json, *array_members(features, tuple(encoders), spec, carried)]
    check_names(record.key, found)
    return found


def array_members(
    features: Features, encoders: Sequence[EncoderProvenance], spec: ShardsSpec, carried: bool
) -> list[Member]:
    """The members that hold arrays: features by encoder, frames by encoder, those filled where `carried`."""
    found = [_npy(name, _array(features, "arrays", name)) for encoder in encoders for name in encoder.arrays]
    for encoder in encoders:
        found += _frame_members(features, encoder.name, spec, carried)
    return found


@dataclass(frozen=True)
class Whole:
    """Reads the members of a sample of which there is but an outline. Picklable."""

    json: Member
    features: Callable[[], Features]
    encoders: tuple[EncoderProvenance, ...]
    """Those whose arrays are among the members."""
    spec: ShardsSpec
    carried: bool
    """Whether frames are."""

    def __call__(self) -> list[Member]:
        """All of them, json first."""
        return [self.json, *array_members(self.features(), self.encoders, self.spec, self.carried)]


def _frame_members(features: Features, name: str, spec: ShardsSpec, carried: bool) -> list[Member]:
    """The frames of one encoder: a member if `spec` carries any sample's frames, filled where `carried`."""
    if not spec.frames_for:
        return []
    frames, clips = _array(features, "frames", name), len(features.meta.clips)
    if spec.frames_codec == "mjpeg":
        if carried and frames.ndim != 1:
            raise ValueError(f"{features.key}: frames of {name} are {frames.shape}, not JPEG pictures in one row")
        return [Member(f"{name}.frames.mjpeg", b"", frames if carried else None)]
    if carried and len(frames) != clips:
        raise ValueError(f"{features.key} has {clips} clips but {name} frames of {len(frames)}")
    return [_npy(f"{name}.frames", frames if carried else frames[:0])]


def check_room_for_names(key: str, recipe: Recipe) -> None:
    """Raises InputError if a member of sample `key` would have a name that other readers cut."""
    frames = [f"frames.{FRAMES_SUFFIXES[recipe.shards.frames_codec]}"] if recipe.shards.frames_for else []
    for name, spec in recipe.encoders.items():
        arrays = "scale.npy" if spec.store.dtype == "int8" else "npy"
        column = ["json"] if spec.store.place == "column" else []
        for end in (arrays, *column, *frames):
            _check_name(f"{key}.{name}.{end}")


def check_names(key: str, members: Sequence[Member]) -> None:
    """Raises InputError where a member of sample `key` has a name that other readers would cut."""
    for member in members:
        _check_name(f"{key}.{member.suffix}")


def _array(features: Features, group: str, name: str) -> NDArray[Any]:
    arrays = getattr(features, group)
    if name not in arrays:
        raise ValueError(f"{features.key} has no {group} of encoder {name!r}, only of {sorted(arrays)}")
    array: NDArray[Any] = arrays[name]
    return array


def _npy(name: str, array: NDArray[Any]) -> Member:
    """C order and little endian, whatever the array came in: equal values, equal bytes."""
    return Member(f"{name}.npy", npy_header(array), array)


def _check_name(name: str) -> None:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InputError(
            f"tar member name {name!r} has {len(name.encode())} bytes, other readers cut it at {MAX_NAME_BYTES}: "
            "shorten the key or the encoder's name"
        )
