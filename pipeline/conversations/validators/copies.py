"""Rules against saying the same again: within a turn, from round to round, and from question to reply."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from pipeline.conversations.generator import Request, SpokenTurn
from pipeline.conversations.validators.rounds import Written, written
from pipeline.conversations.validators.words import VOCABULARY, jaccard, ngrams, sentences, stem

MOST_REPEATED = 0.4
"""Share of a turn's 4-grams that stood there before."""
NEAR = 0.8
"""Jaccard index of 2-grams from which on two questions are the same one."""
NEAR_REPLY = 0.7
"""Of 3-grams, from which on two long replies are."""
TELLING = 3
"""Words of a question beside fillers, from which on they tell it from another."""
LONG = 8
"""Words of a reply that is not the same by chance."""
_TOKEN = re.compile(r"[\w:]+(?:['’]\w+)?")
_STUTTER = re.compile(r"\b(\w+)(?:\W+\1\b){3}|([^\W\d_])\2{5}", re.IGNORECASE)
_AUXILIARIES = frozenset(VOCABULARY["auxiliaries"])
_FILLERS = frozenset(VOCABULARY["fillers"])
"""Words that make no other question of a question."""
_LIGHT = _FILLERS.union(VOCABULARY["light"])
_CHOICE = {"or", "which", "order", "sort", "arrange"}


def tokens(text: str) -> list[str]:
    """Words, numbers and times in lower case."""
    return _TOKEN.findall(text.lower())


def no_loops(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """No turn turns in circles, and no sentence stands in three replies."""
    rounds = list(written(request, turns))
    for place, *texts in rounds:
        for text in texts:
            if found := _STUTTER.search(text):
                return f"round {place} stutters: {found.group()[:80]!r}"
            runs = Counter(ngrams(tokens(text), 4))
            if sum(runs.values()) >= 8 and 1 - len(runs) / sum(runs.values()) > MOST_REPEATED:
                return f"round {place} repeats itself: {' '.join(runs.most_common(1)[0][0])!r}"
    said = Counter(sentence for each in rounds for sentence in {*sentences(each.reply)})
    often = [sentence for sentence, count in said.items() if count >= 3 and len(sentence.split()) > 3]
    return f"three replies say {often[0][:200]!r}" if often else None


def no_near_copies(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """No question is asked again in about the same words, of the annotated ones neither; no long reply given again.

    Two rounds that the annotations themselves hold are left alone.
    """
    own = {each.place for each in written(request, turns)}
    contents = [turn.content for turn in turns]
    rounds = [Written(at // 2 + 1, *contents[at : at + 2]) for at in range(0, len(contents) - 1, 2)]
    for one, other in combinations(rounds, 2):
        if not own & {one.place, other.place}:
            continue
        if _same_question(one.question, other.question):
            return f"rounds {one.place} and {other.place} ask the same: {other.question[:200]!r}"
        if _same_reply(one.reply, other.reply):
            return f"rounds {one.place} and {other.place} reply the same: {other.reply[:200]!r}"
    return None


def no_echo(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """A reply tells what its question does not: but for yes and no, and for a choice among what was offered."""
    for place, question, reply in written(request, turns):
        asked, said = tokens(question), tokens(reply)
        chosen = not _CHOICE.isdisjoint(asked) or (asked[:1] and asked[0] in _AUXILIARIES)
        new = {stem(token) for token in said if token not in _LIGHT} - {stem(token) for token in asked}
        if len(said) >= 4 and not chosen and not new:
            return f"round {place} only says its question again: {reply[:200]!r}"
    return None


def _same_question(one: str, other: str) -> bool:
    """The same but for words that ask nothing, or of almost the same pairs of words."""
    first, second = tokens(one), tokens(other)
    bare = _bare(first)
    near = jaccard({*ngrams(first, 2)}, {*ngrams(second, 2)}) >= NEAR and _stated(first) == _stated(second)
    return near or (len(bare) >= TELLING and bare == _bare(second))


def _same_reply(one: str, other: str) -> bool:
    first, second = tokens(one), tokens(other)
    if min(len(first), len(second)) < LONG or _stated(first) != _stated(second):
        return False
    return jaccard({*ngrams(first, 3)}, {*ngrams(second, 3)}) >= NEAR_REPLY


def _bare(tokens_: list[str]) -> list[str]:
    return [token for token in tokens_ if token not in _FILLERS]


def _stated(tokens_: list[str]) -> set[str]:
    """Numbers and times: what differs in them alone is still another question."""
    return {token for token in tokens_ if any(map(str.isdigit, token))}
