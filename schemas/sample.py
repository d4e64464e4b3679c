"""`Sample`: one candidate for the mixture, as ingest emits it."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Key, Name, Nanoseconds, Record, Sha256, digest


class Modality(StrEnum):
    """Apollo's four kinds of sample (paper, Fig. 7)."""

    TEXT = "text"
    IMAGE = "image"
    MULTI_IMAGE = "multi_image"
    VIDEO = "video"


class Category(StrEnum):
    """Apollo's six annotation types (paper, Fig. 7)."""

    CONVERSATIONAL = "conversational"
    REASONING = "reasoning"
    CAPTIONING = "captioning"
    TEMPORAL_PERCEPTION = "temporal_perception"
    EGOCENTRIC = "egocentric"
    TEXT_RECOGNITION = "text_recognition"


class Split(StrEnum):
    """`train` makes the mixture; `heldout` is never trained on and shares no medium with it."""

    TRAIN = "train"
    HELDOUT = "heldout"


class Generator(Record):
    """Who wrote a text. Empty strings where a field has no meaning (a person has no revision)."""

    name: str = Field(min_length=1, max_length=80)
    """`human`, `renderer`, `template`, or the name of a served model."""
    model: str = ""
    revision: str = ""
    prompt_sha256: str = ""


class MediaRef(Record):
    """One medium of a sample, or a span of it."""

    kind: Literal["image", "video"]
    path: str = Field(min_length=1)
    """Relative to the media root of the sample's source, so that manifests can move."""
    sha256: Sha256 | Literal[""] = ""
    """Of the file's bytes; empty until probed."""
    size_bytes: int = Field(default=0, ge=0)
    width: int = Field(default=0, ge=0)
    """Pixels, as displayed (after rotation); 0 until probed."""
    height: int = Field(default=0, ge=0)
    duration_ns: Nanoseconds = 0
    """Of the whole file; 0 for an image and until probed."""
    start_ns: Nanoseconds = 0
    """Where the sample's span begins, measured from the first shown frame."""
    exclusive_end_ns: Nanoseconds = 0
    """Where it ends; 0 means the end of the file."""

    @model_validator(mode="after")
    def _check_span(self) -> Self:
        if self.exclusive_end_ns and self.exclusive_end_ns <= self.start_ns:
            raise ValueError(
                f"empty span [{self.start_ns}, {self.exclusive_end_ns}) ns of {self.path}: "
                "exclusive_end_ns must be greater than start_ns"
            )
        if self.path.startswith("/") or ".." in self.path.split("/"):
            raise ValueError(f"media path {self.path!r} leaves its root: give a relative path without '..'")
        return self

    @property
    def span_ns(self) -> int:
        """Length of the span, ns; 0 of an image, and where the film's end is not known."""
        return max(0, (self.exclusive_end_ns or self.duration_ns) - self.start_ns)


class Caption(Record):
    """What is seen, in whole sentences."""

    type: Literal["caption"] = "caption"
    text: str = Field(min_length=1, max_length=20_000)


class QuestionAnswer(Record):
    """One question with its answer."""

    type: Literal["qa"] = "qa"
    question: str = Field(min_length=1, max_length=20_000)
    answer: str = Field(min_length=1, max_length=20_000)
    topic: str = Field(default="", max_length=40)
    """What is asked about (`colour`, `direction`, ...): scores are broken down by it."""
    evidence: Literal["", "text", "frame", "time"] = ""
    """What an honest answer needs: the words alone, any single frame, or the order of frames."""


class TimedEvent(Record):
    """Something that happens in [start_ns, exclusive_end_ns) of the sample's span."""

    type: Literal["event"] = "event"
    start_ns: Nanoseconds
    exclusive_end_ns: Nanoseconds
    text: str = Field(min_length=1, max_length=2_000)

    @model_validator(mode="after")
    def _check_span(self) -> Self:
        if self.exclusive_end_ns <= self.start_ns:
            raise ValueError(f"empty event [{self.start_ns}, {self.exclusive_end_ns}) ns: {self.text!r}")
        return self


Annotation = Annotated[Caption | QuestionAnswer | TimedEvent, Field(discriminator="type")]


def key_again(key: str, epoch: int) -> str:
    """The key of a sample in a later pass over its source: `{key}-e{epoch}`; the first pass has the key itself."""
    return f"{key}-e{epoch}" if epoch else key


class Sample(Record):
    """One candidate: its media, what is known about them, and under which licence."""

    key: Key
    source: Name
    modality: Modality
    category: Category
    split: Split = Split.TRAIN
    media: tuple[MediaRef, ...] = ()
    annotations: tuple[Annotation, ...] = Field(min_length=1)
    licence: str = Field(min_length=1, max_length=200)
    """SPDX expression where one exists (several media join theirs by ` AND `), else the data set's own
    name for its terms."""
    annotator: Generator
    """Who made the annotations: Apollo shuts out what ChatGPT wrote, so it must be known."""
    epoch: int = Field(default=0, ge=0)
    """Which pass over its source this is; `again` makes those behind the first."""

    @model_validator(mode="after")
    def _check_media(self) -> Self:
        kinds = [medium.kind for medium in self.media]
        fits = {
            Modality.TEXT: kinds == [],
            Modality.IMAGE: kinds == ["image"],
            Modality.MULTI_IMAGE: len(kinds) >= 2 and set(kinds) == {"image"},
            Modality.VIDEO: kinds == ["video"],
        }
        if not fits[self.modality]:
            raise ValueError(f"a {self.modality} sample cannot carry media {kinds} (key {self.key})")
        return self

    def again(self, epoch: int) -> Self:
        """The same sample in a later pass over its source, under a key of its own."""
        return self.model_copy(update={"key": key_again(self.key, epoch), "epoch": epoch})

    def binding_sha256(self) -> str:
        """Digest that ties a text to its media: of key, media digests and spans, and annotations.

        It goes out with every request for a conversation and comes back with the reply (law 8).
        """
        media = [(m.path, m.sha256, m.start_ns, m.exclusive_end_ns) for m in self.media]
        return digest([self.key, media, [a.model_dump(mode="json") for a in self.annotations]])
