"""The words of the `template` generator: the file `templates.yaml`, checked when it is read."""

from functools import cache
from importlib.resources import files
from typing import Annotated, Self

import yaml
from pydantic import Field, model_validator

from schemas.base import Record, sha256_text
from schemas.sample import Generator, Modality

Plain = Annotated[str, Field(pattern=r"^[^{}]+$")]
WithEvent = Annotated[str, Field(pattern=r"^[^{}]*\{event\}[^{}]*$")]
"""`{event}`: an annotation's text without its full stop."""
WithSpan = Annotated[str, Field(pattern=r"^[^{}]*\{span\}[^{}]*$")]
"""`{span}`: `from 00:01 to 00:03`, or `at 00:01`."""
Line = Annotated[str, Field(pattern=r"^[^{}]*\{Span\}[^{}]*\{text\}[^{}]*$")]
"""`{Span}`: the span with a capital; `{text}`: an annotation's text."""


class WhenTemplates(Record):
    """From an event's text to its time."""

    questions: tuple[WithEvent, ...] = Field(min_length=1)
    answers: tuple[WithSpan, ...] = Field(min_length=1)


class WhatTemplates(Record):
    """From a time to the event's text."""

    questions: tuple[WithSpan, ...] = Field(min_length=1)


class AccountTemplates(Record):
    """All events in order, one line each."""

    questions: tuple[Plain, ...] = Field(min_length=1)
    line: Line


class Templates(Record):
    """The whole file."""

    version: int = Field(ge=1)
    caption: dict[Modality, tuple[Plain, ...]]
    when: WhenTemplates
    what: WhatTemplates
    account: AccountTemplates

    @model_validator(mode="after")
    def _check_modalities(self) -> Self:
        if missing := set(Modality) - {Modality.TEXT} - {name for name, texts in self.caption.items() if texts}:
            raise ValueError(f"no caption templates for {', '.join(sorted(missing))}: add at least one for each")
        return self


@cache
def load_templates() -> tuple[Templates, Generator]:
    """The packaged templates, and the provenance of what is made from them."""
    text = files("pipeline.conversations").joinpath("templates.yaml").read_text(encoding="utf-8")
    templates = Templates.model_validate(yaml.safe_load(text))
    return templates, Generator(name="template", revision=str(templates.version), prompt_sha256=sha256_text(text))
