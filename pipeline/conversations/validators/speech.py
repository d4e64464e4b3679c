"""Rules of how a model writes: plain English, in whole sentences, of a sensible length."""

import re
from collections.abc import Sequence

from pipeline.conversations.generator import Request, SpokenTurn
from pipeline.conversations.validators.rounds import material, written
from pipeline.conversations.validators.words import STOP_WORDS, VOCABULARY, words

MOST_QUESTION_WORDS, MOST_REPLY_WORDS = 60, 160
LEAST_STOP_SHARE = 0.2
"""Of the words of a round in English; above 0.35 as a rule, and below 0.15 in languages akin to it."""
STOP_SAMPLE = 8
"""Words from which on that share tells something."""
MOST_FOREIGN_SHARE = 0.1
"""Of letters in other scripts that no annotation has."""
SHORT = 8
"""Words of a reply that may stand without a full stop."""

_BIDS = frozenset(VOCABULARY["bids"])
_CUT_OFF = re.compile(r"(?:[,;(–—-]|\b(?:a|an|and|at|but|from|in|into|of|or|the|to|with))\s*$", re.IGNORECASE)
_FULL_STOP = re.compile(r"[.!?…:][”’\")]*\s*$")
_MARKUP = re.compile(
    r"\*\*|__\w|`|^\s{0,3}#{1,6}\s|^\s*[-*•]\s|^\s*\d+[.)]\s+\S|</?[a-z][^>]{0,99}>|<\|[^>]{0,99}\|>|\[/?INST\]|[{}]|\\[nu\"]"
    r"|^\s*(?:user|human|person|assistant|gpt|question|reply|answer|q|a|round \d+)\s*:",
    re.IGNORECASE | re.MULTILINE,
)


def no_markup(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """No Markdown, HTML, JSON, escapes, or speaker's name before what is said."""
    for place, *texts in written(request, turns):
        for found in filter(None, map(_MARKUP.search, texts)):
            return f"round {place} has {found.group()!r}, expected plain sentences"
    return None


def english(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """Latin letters, and of the words of a round a share that only English has."""
    known = set(material(request))
    for place, *texts in written(request, turns):
        text = " ".join(texts)
        letters = [letter for letter in text if letter.isalpha()]
        foreign = [letter for letter in letters if ord(letter) > 0x24F and letter not in known]
        if len(foreign) > MOST_FOREIGN_SHARE * len(letters):
            return f"round {place} is written in another script: {foreign[0]!r}"
        heard = words(text)
        share = sum(word in STOP_WORDS for word in heard) / max(len(heard), 1)
        if len(heard) >= STOP_SAMPLE and share < LEAST_STOP_SHARE:
            return f"round {place} is no English: {share:.2f} of its words are such as English cannot do without"
    return None


def plain_length(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """Questions of 2 to 60 words, replies of at most 160."""
    for place, question, reply in written(request, turns):
        asked, said = len(question.split()), len(reply.split())
        if not 2 <= asked <= MOST_QUESTION_WORDS:
            return f"the question of round {place} has {asked} words, expected 2 to {MOST_QUESTION_WORDS}"
        if said > MOST_REPLY_WORDS:
            return f"the reply of round {place} has {said} words, expected at most {MOST_REPLY_WORDS}"
    return None


def asks_something(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """A question has a question mark, or bids: describe, tell, list."""
    for place, question, _ in written(request, turns):
        if "?" not in question and not _BIDS & set(words(question)[:3]):
            return f"round {place} asks nothing: {question[:200]!r}"
    return None


def finished(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """Questions and replies end as sentences do; a few words may stand alone, if nothing is missing."""
    for place, *texts in written(request, turns):
        for text in texts:
            stands_alone = len(text.split()) <= SHORT and not _CUT_OFF.search(text)
            if not (_FULL_STOP.search(text) or stands_alone):
                return f"round {place} breaks off: {text[-80:]!r}"
    return None
