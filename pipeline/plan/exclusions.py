"""The exclusion lists of a recipe, held against candidates: keys, media, questions, and runs of words.

A listed question of 13 words or more also names every text that shares 13 of them in a row with it: the field's
measure of contamination since GPT-3 (arXiv 2005.14165, appendix C). A list in a script without spaces between words
has no such runs; its questions are compared whole.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from schemas.exclusions import Excluded
from schemas.sample import Annotation, MediaRef, QuestionAnswer, Sample

RUN = 13
"""Words in a row."""
PART = 7
"""Any 13 words in a row hold 7 that begin at a multiple of 7: looking at these alone rules out most texts."""


class _Folding(dict[int, str]):
    """For `str.translate`: letters, marks and digits stay, everything else becomes a space."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        self[code] = sign if unicodedata.category(sign)[0] in "LMN" else " "
        return self[code]


_FOLDING = _Folding()


class Exclusions:
    """What lists name, each name once: the first list that has it counts.

    A look-up a name; a listed key takes about 150 bytes, a listed run of words, with its parts, about 500.
    """

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._media: dict[str, str] = {}
        self._questions: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._parts: dict[str, str] = {}

    def add(self, name: str, records: Iterable[Excluded]) -> int:
        """Takes in the list of this name; gives the number of its records."""
        number, values = 0, dict[str, str]()
        for number, record in enumerate(records, start=1):  # noqa: B007 - counts
            told = values.setdefault(record.reason, f"{name}: {record.reason}" if record.reason else name)
            for table, named in self._entries(record):
                table.setdefault(named, told)
        return number

    def _entries(self, record: Excluded) -> Iterator[tuple[dict[str, str], str]]:
        if key := record.key or record.name:
            yield self._keys, key
        if medium := record.media or record.name:
            yield self._media, medium
        if record.sha256:
            yield self._digests, record.sha256
        if record.question:
            words = normal(record.question)
            yield self._questions, words
            found = list(runs(words))
            yield from ((self._runs, run) for run in found)
            yield from ((self._parts, part) for part in (runs(words, PART) if found else ()))

    def named(self, sample: Sample) -> str | None:
        """The list that names the sample, and its reason, as one text: `LIST` or `LIST: REASON`; None for none."""
        if told := self._keys.get(sample.key):
            return told
        for medium in sample.media:
            for table, named in ((self._digests, (medium.sha256,)), (self._media, _names(medium))):
                if told := next(filter(None, map(table.get, named)), None):
                    return told
        return self._said(sample.annotations) if self._questions else None

    def _said(self, annotations: Sequence[Annotation]) -> str | None:
        for each in annotations:
            if isinstance(each, QuestionAnswer):
                question = normal(each.question)
                if told := self._questions.get(question):
                    return told
                texts = [question, normal(each.answer)] if self._runs else []
            else:
                texts = [normal(each.text)] if self._runs else []
            if told := next(filter(None, map(self._shared, texts)), None):
                return told
        return None

    def _shared(self, words: str) -> str | None:
        split = words.split(" ")
        parts = (" ".join(split[start : start + PART]) for start in range(0, len(split) - PART + 1, PART))
        if not any(map(self._parts.__contains__, parts)):
            return None
        return next(filter(None, map(self._runs.get, runs(words))), None)


def normal(text: str) -> str:
    """Words with one space between them: NFKC, case folded, without punctuation and other signs."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_FOLDING).split())


def runs(words: str, length: int = RUN) -> Iterator[str]:
    """Every `length` words in a row of a `normal` text."""
    starts = list(accumulate((len(word) + 1 for word in words.split(" ")), initial=0))
    return (words[start : end - 1] for start, end in zip(starts, starts[length:], strict=False))


def _names(medium: MediaRef) -> tuple[str, str, str]:
    """Its path, its file's name, and that without its suffix."""
    name = medium.path.rpartition("/")[2]
    stem, dot, _ = name.rpartition(".")
    return medium.path, name, stem if dot and stem else name
