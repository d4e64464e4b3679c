"""Rules that hold a reply against its question: of the kind that was asked for, and about the same thing."""

import re
from collections.abc import Sequence

from pipeline.conversations.clock import stated_times
from pipeline.conversations.generator import Request, SpokenTurn
from pipeline.conversations.validators.numbers import named_values, stated_numbers
from pipeline.conversations.validators.rounds import material, written
from pipeline.conversations.validators.words import VOCABULARY, content, sentences, words

OFF_TOPIC = 4
"""Words with a meaning of a reply, from which on none of them being known tells something."""

_AUXILIARIES = frozenset(VOCABULARY["auxiliaries"])
_AFFIRMING = frozenset(VOCABULARY["affirming"])
_WHEN = re.compile(
    r"^(?:(?:and|so|then|but|about|roughly|exactly|at|around|from|until|since) )*"
    r"(?:when|what time|what moment|what point|which second|which moment|which point)\b"
)
_COUNT = re.compile(r"\bhow many\b|\bwhat number of\b")
_TIMELY = frozenset(VOCABULARY["timely"])
_COUNTING = frozenset(VOCABULARY["counting"])


def yes_or_no_told(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """A question that wants yes or no is given it, or a denial, or its own verb back (`It is.`)."""
    for place, question, reply in written(request, turns):
        asked = words(asked_last(question))
        if not _wants_yes_or_no(asked):
            continue
        said = words(reply)
        denies = any(word.endswith("n't") for word in said)
        if not (denies or _AFFIRMING & set(said) or asked[0] in said[:6]):
            return f"round {place} asks {question[-120:]!r} and hears neither yes nor no: {reply[:120]!r}"
    return None


def _wants_yes_or_no(asked: list[str]) -> bool:
    """`Can you describe ...` bids, and `Is it a cat or a dog?` offers a choice."""
    return len(asked) > 1 and asked[0] in _AUXILIARIES and "or" not in asked and asked[1] not in ("you", "we")


def time_told(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """A question for a time is given one: MM:SS, or one told by what else happens."""
    for place, question, reply in written(request, turns):
        if _WHEN.search(asked_last(question).lower()):
            counted = any(number.value != 1 for number in stated_numbers(reply))  # `one` also stands for a thing
            if not (counted or any(stated_times(reply)) or _TIMELY & set(words(reply))):
                return f"round {place} asks {question[-120:]!r} and hears no time: {reply[:120]!r}"
    return None


def count_told(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """A question for a count is given one; `a cat and a dog` counts."""
    for place, question, reply in written(request, turns):
        if _COUNT.search(asked_last(question).lower()):
            counts = any(stated_numbers(reply)) or named_values(reply) or _COUNTING & set(words(reply))
            if not counts:
                return f"round {place} asks {question[-120:]!r} and hears no number: {reply[:120]!r}"
    return None


def on_topic(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """A reply of some length shares a word with its question or with the annotations."""
    known = content(material(request))
    for place, question, reply in written(request, turns):
        said = content(reply)
        if len(said) >= OFF_TOPIC and not said & (known | content(question)):
            return f"round {place} speaks of something else: {reply[:120]!r}"
    return None


def asked_last(text: str) -> str:
    """The last sentence of a turn that ends with a question mark; all of it where none does."""
    asked = [sentence for sentence in sentences(text) if sentence.rstrip('”’")').endswith("?")]
    return asked[-1] if asked else text
