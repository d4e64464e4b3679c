"""Words as rules compare them: lower case, without endings, with or without those that only join."""

import re
from collections.abc import Sequence
from importlib.resources import files

import yaml

_FILE = files("pipeline.conversations.validators").joinpath("vocabulary.yaml")
VOCABULARY: dict[str, tuple[str, ...]] = {
    name: tuple(text.split()) for name, text in yaml.safe_load(_FILE.read_text(encoding="utf-8")).items()
}
"""Lists of `vocabulary.yaml`."""
STOP_WORDS = frozenset(VOCABULARY["stop_words"])
_EMPTY = STOP_WORDS.union(VOCABULARY["ones"], VOCABULARY["tens"])

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?…])[”’\")]*\s+|\n+")
_ENDINGS = ("ingly", "edly", "ings", "ies", "ing", "ied", "ed", "es", "ly", "er", "y", "s", "e")


def words(text: str) -> list[str]:
    """Its words in lower case, apostrophes straight; numbers are none."""
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def sentences(text: str) -> list[str]:
    """Its sentences, trimmed."""
    return [piece.strip() for piece in _SENTENCE.split(text) if piece.strip()]


def content(text: str) -> set[str]:
    """Stems of the words that carry meaning; numbers alone have none."""
    return {stem(word) for word in words(text) if word.removesuffix("'s") not in _EMPTY}


def stem(word: str) -> str:
    """Crude, so that `walks`, `walking` and `walked` are one; at least three letters are left."""
    word = word.removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            bare = word[: -len(ending)]
            return bare[:-1] if len(bare) > 3 and bare[-1] == bare[-2] else bare
    return word


def ngrams(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Every run of `size` tokens, in order."""
    return [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)]


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    """Shared share of all; 0 of nothing."""
    return len(one & other) / len(one | other) if one or other else 0.0
