"""A packed sample and the members it becomes in a tar."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import Features
from schemas.base import digest
from schemas.conversation import Conversation
from schemas.ledger import ShardSample
from schemas.sample import Category, Modality, QuestionAnswer, Sample

MAX_NAME_BYTES = 100
"""USTAR's name field (POSIX.1-1988 ustar header). Its prefix field would stretch it, but wids ignores that."""


@dataclass(frozen=True)
class Packed:
    """All that the shards hold of one sample: three records of one key, bound together.

    Raises ValueError when they are not of one key, or the talk was made from another sample (law 8).
    """

    sample: Sample
    conversation: Conversation
    features: Features

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
    payload: bytes


def shard_sample(packed: Packed) -> ShardSample:
    """The JSON member's content."""
    sample, turns = packed.sample, packed.conversation.turns
    binding = sample.binding_sha256()
    return ShardSample(
        key=sample.key,
        source=sample.source,
        modality=sample.modality,
        category=sample.category,
        split=sample.split,
        licence=sample.licence,
        annotator=sample.annotator,
        generator=packed.conversation.generator,
        binding_sha256=binding,
        text_sha256=digest([sample.key, binding, [turn.model_dump(mode="json") for turn in turns]]),
        conversations=turns,
        questions=tuple(
            {"question": a.question, "answer": a.answer, "topic": a.topic, "evidence": a.evidence}
            for a in sample.annotations
            if isinstance(a, QuestionAnswer)
        ),
        media=sample.media,
        clips=packed.features.meta.clips,
        dropped_clips=packed.features.meta.dropped_clips,
        salvaged=packed.features.meta.salvaged,
        encoders=packed.features.meta.encoders,
        storage_loss=packed.features.meta.storage_loss,
    )


def members(
    record: ShardSample, features: Features, encoders: Sequence[str], frames_for: Sequence[Category]
) -> list[Member]:
    """The members of a sample in their order: json, features by encoder, frames by encoder.

    The suffixes depend on `encoders` and on whether `frames_for` is empty, never on the sample:
    readers infer a schema from the first samples. Raises ValueError when an array is missing or a
    member's name is too long.
    """
    found = [Member("json", record.canonical().encode())]
    for name in encoders:
        columns = next((e.columns for e in record.encoders if e.name == name), (name,))
        found += [Member(f"{column}.npy", _npy(_array(features, "arrays", column))) for column in columns]
    if frames_for:
        wanted = record.modality is Modality.VIDEO and record.category in frames_for
        for name in encoders:
            frames = _array(features, "frames", name)
            found.append(Member(f"{name}.frames.npy", _npy(frames if wanted else frames[:0])))
            if wanted and len(frames) != len(record.clips):
                raise ValueError(f"{record.key} has {len(record.clips)} clips but {name} frames of {len(frames)}")
    for member in found:
        _check_name(f"{record.key}.{member.suffix}")
    return found


def _array(features: Features, group: str, name: str) -> NDArray[Any]:
    arrays = getattr(features, group)
    if name not in arrays:
        raise ValueError(f"{features.key} has no {group} of encoder {name!r}, only of {sorted(arrays)}")
    array: NDArray[Any] = arrays[name]
    return array


def _npy(array: NDArray[Any]) -> bytes:
    # C order and little endian, whatever the array came in: equal values, equal bytes.
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    buffer = io.BytesIO()
    np.save(buffer, plain, allow_pickle=False)
    return buffer.getvalue()


def _check_name(name: str) -> None:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"tar member name {name!r} has {len(name.encode())} bytes, other readers cut it at {MAX_NAME_BYTES}: "
            "shorten the key or the encoder's name"
        )
