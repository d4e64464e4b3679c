"""Exclusion lists held against the samples of tars: what names mean is written here a second time, on its own.

A sample is named by its key; by digest, path, file name or stem of a medium; by a user turn or a question that says
the same words; and by any turn or question that shares 13 words in a row with a listed question.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from pipeline.audit.findings import Code
from pipeline.audit.sample_checks import Opened
from schemas.conversation import Role
from schemas.exclusions import Excluded
from schemas.ledger import Ledger, ShardSample

_GRAM = 13
_SHOWN = 200
"""Characters of a text that a finding quotes."""


class ExcludedCheck:
    """What lists name, ready to be asked of millions of samples; it goes to workers as it is."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, str]] = {"key": {}, "sha256": {}, "media": {}}
        self._by_words: dict[tuple[str, ...], str] = {}
        self._grams: dict[str, str] = {}

    def add(self, name: str, records: Iterable[Excluded]) -> int:
        """Takes in the list of this name; gives the number of its records."""
        number = 0
        for record in records:
            number += 1
            source = f"list {name}" + (f" ({record.reason})" if record.reason else "")
            named = {"key": record.key, "sha256": record.sha256, "media": record.media}
            if record.name is not None:
                named = {"key": record.name, "sha256": None, "media": record.name}
            for field, value in named.items():
                if value is not None:
                    self._by_name[field].setdefault(value, source)
            if record.question is not None:
                words = _words(record.question)
                self._by_words.setdefault(tuple(words), source)
                for gram in _grams(words):
                    self._grams.setdefault(gram, source)
        return number

    def check_excluded(self, opened: Opened, _: Ledger | None) -> Iterator[tuple[Code, str]]:
        """What an exclusion list names, a takedown or a benchmark's own, must not be trained on."""
        record = opened.record
        # A later pass over a source has keys of its own; the candidate's is the one that lists know.
        candidate = record.key.removesuffix(f"-e{record.epoch}") if record.epoch else record.key
        for key in dict.fromkeys((candidate, record.key)):
            if source := self._by_name["key"].get(key):
                yield Code.EXCLUDED_KEY, f"{source} names key {key!r}"
        for field, value in _media(record):
            if source := self._by_name[field].get(value):
                yield Code.EXCLUDED_MEDIUM, f"{source} names {value!r}, of a medium of this sample"
        if self._by_words:
            yield from self._check_texts(record)

    def _check_texts(self, record: ShardSample) -> Iterator[tuple[Code, str]]:
        asked = [turn.content for turn in record.conversations if turn.role is Role.USER]
        asked += [question.get("question", "") for question in record.questions]
        for text in dict.fromkeys(asked):
            if source := self._by_words.get(tuple(_words(text))):
                yield Code.EXCLUDED_TEXT, f"{source} has the question {text[:_SHOWN]!r}"
        if not self._grams:
            return
        for text in dict.fromkeys([*(turn.content for turn in record.conversations), *asked]):
            words = _words(text)
            source = self._by_words.get(tuple(words))
            shared = next((gram for gram in _grams(words) if gram in self._grams), None)
            if shared and not (source and text in asked):
                yield Code.EXCLUDED_TEXT, f"{self._grams[shared]} shares {shared!r} with {text[:_SHOWN]!r}"


def _media(record: ShardSample) -> Iterator[tuple[str, str]]:
    """Field of a list and value, each once, of all media."""
    found = []
    for medium in record.media:
        path = PurePosixPath(medium.path)
        found += [("sha256", medium.sha256), ("media", medium.path), ("media", path.name), ("media", path.stem)]
    yield from dict.fromkeys(found)


def _words(text: str) -> list[str]:
    """Runs of letters, marks and digits, in one form and case."""
    if text.isascii():
        return re.findall(r"[a-z0-9]+", text.lower())
    same = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(sign if unicodedata.category(sign)[0] in ("L", "M", "N") else " " for sign in same).split()


def _grams(words: list[str]) -> Iterator[str]:
    return (" ".join(words[at : at + _GRAM]) for at in range(len(words) - _GRAM + 1))
