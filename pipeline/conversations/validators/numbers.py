"""Numbers as texts state them, in digits or in words; times of the form MM:SS are none."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from pipeline.conversations.validators.words import VOCABULARY

_ONES = {word: value for value, word in enumerate(VOCABULARY["ones"])}
_TENS = {word: 10 * value for value, word in enumerate(VOCABULARY["tens"], start=2)}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_IRREGULAR = {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12}
_ORDINALS = {f"{word}th": value for word, value in _ONES.items()} | _IRREGULAR
_ORDINALS |= {f"{word.removesuffix('y')}ieth": value for word, value in _TENS.items()}
_NAMED = {"pair": 2, "couple": 2, "both": 2, "twice": 2, "twins": 2, "thrice": 3, "dozen": 12}
_TOKEN = re.compile(
    r"(?<![\w:.])(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?)(?P<th>st|nd|rd|th)?(?![\w:]|\.\d)|(?P<word>[a-z]+)"
)
_CLOCK = re.compile(r"\b(?:\d+:)?\d{1,2}:\d\d\b")


class Number(NamedTuple):
    """One number that a text states."""

    value: Fraction
    ordinal: bool
    unit: str
    """The word after it; empty at the end."""


def stated_numbers(text: str) -> Iterator[Number]:
    """Every number in `text`; `twenty-five` and `one hundred and two` are one each."""
    tokens = list(_TOKEN.finditer(_CLOCK.sub(" : ", text.lower())))
    at = 0
    while at < len(tokens):
        if digits := tokens[at]["digits"]:
            value, ordinal, after = Fraction(digits.replace(",", "")), bool(tokens[at]["th"]), at + 1
        else:
            value, ordinal, after = _spelled([token["word"] or "" for token in tokens[at : at + 8]])
            after += at
        if after > at:
            yield Number(value, ordinal, (tokens[after]["word"] or "") if after < len(tokens) else "")
        at = max(after, at + 1)


def named_values(text: str) -> set[Fraction]:
    """Numbers that words such as `both` and `dozen` stand for."""
    return {Fraction(_NAMED[word]) for word in re.findall(r"[a-z]+", text.lower()) if word in _NAMED}


def _spelled(words: Sequence[str]) -> tuple[Fraction, bool, int]:
    """The number that `words` begin with, whether it is an ordinal, and of how many words; of 0, none."""
    total, current, taken = 0, 0, 0
    for at, word in enumerate(words):
        value = _ONES.get(word, _TENS.get(word, 0))
        room = 100 if current % 100 == 0 else 10 if current % 10 == 0 and current % 100 >= 20 else 1
        if word in _ORDINALS and _ORDINALS[word] < room and (current or total or not taken):
            return Fraction(total + current + _ORDINALS[word]), True, at + 1
        if (word in _ONES or word in _TENS) and value < room and (current or total or not taken):
            current += value
        elif word in _SCALES and taken and current:
            total, current = (total, current * 100) if word == "hundred" else (total + current * _SCALES[word], 0)
        elif word == "and" and current >= 100 and current % 100 == 0:
            continue  # of `one hundred and two`; where no number follows, it is not taken
        else:
            break
        taken = at + 1
    return Fraction(total + current), False, taken
