"""Gates: what a recipe lets into a mixture, by licence and by who wrote the words."""

from itertools import groupby
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Record
from schemas.sample import Generator

Pattern = Annotated[str, Field(min_length=1, max_length=200)]
"""A name, in which `*` stands for any run of characters. Upper and lower case are the same."""
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=1_000)]

OPERATORS = {"AND", "OR", "and", "or"}
"""What joins licences in SPDX, which knows both spellings."""


class Gate(Record):
    """Which names may enter. Empty, it lets everything in."""

    allow: Patterns = Field(
        default=(),
        description="Only what matches one of these enters; () is all. `*` is any characters; case is ignored.",
    )
    deny: Patterns = Field(default=(), description="What matches one of these stays out, allowed or not.")

    @property
    def is_open(self) -> bool:
        """Whether it lets everything in."""
        return not (self.allow or self.deny)

    def denies(self, name: str) -> bool:
        """Whether `deny` names it."""
        return any(_matches(pattern, name) for pattern in self.deny)

    def bars(self, name: str) -> bool:
        """Whether it must stay out."""
        return self.denies(name) or (bool(self.allow) and not any(_matches(p, name) for p in self.allow))


class LicenceGate(Gate):
    """A gate of licences: of an expression such as `MIT AND CC-BY-4.0` every part must be let in.

    So must every part of `MIT OR CC-BY-NC-4.0`: nobody said which was chosen. An exception
    (`WITH ...`) only adds permission, and is left out.
    """

    @model_validator(mode="after")
    def _check_patterns(self) -> Self:
        for pattern in (*self.allow, *self.deny):
            if licences_in(pattern) != (" ".join(_words(pattern)),):
                raise ValueError(
                    f"{pattern!r} matches no licence: expressions are taken apart at AND, OR and WITH; give a "
                    "pattern for each licence"
                )
        return self

    def denies(self, name: str) -> bool:
        """Whether `deny` names a part of it."""
        return any(super(LicenceGate, self).denies(part) for part in licences_in(name))

    def bars(self, name: str) -> bool:
        """Whether a part of it must stay out."""
        return any(super(LicenceGate, self).bars(part) for part in licences_in(name) or (name,))


class Gates(Record):
    """All gates of a recipe, as its ledger tells them."""

    licences: LicenceGate = LicenceGate()
    annotators: Gate = Gate()
    """Of who wrote the annotations; what it denies may not write the conversations either."""

    @property
    def is_open(self) -> bool:
        """Whether they let everything in."""
        return self.licences.is_open and self.annotators.is_open

    def bar(self, licence: str, annotator: Generator) -> tuple[Literal["licence", "annotator"], str] | None:
        """The first gate that shuts out a sample of these, and what it shuts out; None if it may enter."""
        if self.licences.bars(licence):
            return "licence", licence
        names = [name for name in (annotator.name, annotator.model) if name]
        if all(map(self.annotators.bars, names)) or any(map(self.annotators.denies, names)):
            return "annotator", " ".join(names)
        return None


def licences_in(expression: str) -> tuple[str, ...]:
    """The licences that an SPDX expression joins, without their exceptions; other terms are one, as written."""
    groups = groupby(_words(expression), OPERATORS.__contains__)
    parts = [_bare(list(words)) for joins, words in groups if not joins]
    return tuple(part for part in parts if part)


def _bare(words: list[str]) -> str:
    return " ".join(words[: words.index("WITH")] if "WITH" in words else words)


def _words(text: str) -> list[str]:
    return text.replace("(", " ").replace(")", " ").split()


def _matches(pattern: str, name: str) -> bool:
    """Each piece between the pattern's stars is taken where it first occurs: no backtracking, whatever is given."""
    head, *rest = " ".join(_words(pattern.casefold())).split("*")
    name = " ".join(_words(name.casefold()))
    if not rest:
        return name == head
    *middle, tail = rest
    at = len(head) if name.startswith(head) else -1
    for piece in middle:
        found = name.find(piece, at) if at >= 0 else -1
        at = found + len(piece) if found >= 0 else -1
    return 0 <= at <= len(name) - len(tail) and name.endswith(tail)
