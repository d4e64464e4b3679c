"""The ledger's gates, read anew: what they mean is written here a second time, so that a slip in one is seen."""

import re
from functools import lru_cache

from schemas.gates import Gate
from schemas.sample import Generator

_KNOWN = 4_096
"""Names whose verdict is kept: a mixture has few licences and fewer annotators."""


@lru_cache(_KNOWN)
def barred_licence(gate: Gate, licence: str) -> str:
    """The first part of `licence` that may not enter; empty where all may.

    Parts are what AND and OR join (either case), each without its exception (`WITH ...`).
    """
    joined = [re.sub(r"(?<= )WITH .*", "", part).strip() for part in re.split(_JOINED, f" {_plain(licence)} ")]
    parts = [part for part in joined if part] or [_plain(licence)]
    verdicts = ((part, _denied(gate, part) or not _allowed(gate, part)) for part in parts)
    return next((part or "what is empty" for part, is_barred in verdicts if is_barred), "")


def barred_annotator(gate: Gate, annotator: Generator) -> str:
    """The name for which who wrote the annotations may not enter; empty where it may."""
    names = _names(annotator)
    if denied := barred_generator(gate, annotator):
        return denied
    return "" if any(_allowed(gate, name) for name in names) else names[0]


def barred_generator(gate: Gate, generator: Generator) -> str:
    """The name for which who made the conversation is denied; empty where it is not. Nobody need be allowed."""
    return next((name for name in _names(generator) if _denied(gate, name)), "")


_JOINED = r"(?<= )(?:AND|OR|and|or)(?= )"


def _names(writer: Generator) -> list[str]:
    return [writer.name, *([writer.model] if writer.model else [])]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[()]", " ", text).split())


@lru_cache(_KNOWN)
def _denied(gate: Gate, name: str) -> bool:
    return any(_pattern(each).fullmatch(_plain(name).casefold()) for each in gate.deny)


@lru_cache(_KNOWN)
def _allowed(gate: Gate, name: str) -> bool:
    return not gate.allow or any(_pattern(each).fullmatch(_plain(name).casefold()) for each in gate.allow)


@lru_cache(_KNOWN)
def _pattern(text: str) -> re.Pattern[str]:
    # Atomic groups, but for the last star: a stranger's pattern cannot make the search go back and forth.
    head, *rest = [re.escape(piece) for piece in _plain(text).casefold().split("*")]
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return re.compile(head + middle + "".join(f".*{piece}" for piece in rest[-1:]), re.DOTALL)
