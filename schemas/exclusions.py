"""Exclusion lists: what must not enter a mixture, for takedowns and for what benchmarks hold."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.base import Key, Record, Sha256

NAMES = ("key", "sha256", "media", "question", "name")
"""Fields of a record that name what stays out."""

AnyCaseSha256 = Annotated[Sha256, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)]


class Excluded(Record):
    """One record of a list. Exactly one field says what stays out, beside the reason."""

    key: Key | None = None
    """A sample's key."""
    sha256: AnyCaseSha256 | None = None
    """Of a medium's bytes."""
    media: str | None = Field(default=None, min_length=1, max_length=4_096)
    """A medium's path as its source has it, its file name, or that without suffix: a benchmark's video id."""
    question: str | None = Field(default=None, min_length=1, max_length=20_000)
    """What a user asks; compared without regard to case, punctuation and white space."""
    name: str | None = Field(default=None, min_length=1, max_length=4_096)
    """A key or a medium, whichever it is: what a plain line gives."""
    reason: str = Field(default="", max_length=80)
    """Why; empty where the list's name says it."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        given = [name for name in NAMES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"names {' and '.join(given) or 'nothing'}: a record has one of {', '.join(NAMES)}")
        if self.question is not None and not any(map(str.isalnum, self.question)):
            raise ValueError(
                f"question {self.question!r:.60} has no word that could be compared: remove the record"
            )
        return self


class ExclusionList(Record):
    """A list as the ledger tells it; whom it barred stands in the rows of gate `excluded`."""

    name: str = Field(min_length=1, max_length=200)
    """Of its file, without folder and suffix."""
    sha256: Sha256
    """Of its file's bytes."""
    records: int = Field(ge=0)

    def has_barred(self, value: str) -> bool:
        """Whether a `Barred.value` of gate `excluded` is of this list."""
        return value == self.name or value.startswith(f"{self.name}: ")
