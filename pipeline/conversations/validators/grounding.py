"""Rules that hold what a model says against the annotations: times, numbers, names.

They take what is stated, not what is meant: a wrong verb passes, a wrong number does not.
"""

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from pipeline.conversations.clock import NS_PER_SECOND, stated_times
from pipeline.conversations.generator import Request, SpokenTurn
from pipeline.conversations.validators.numbers import Number, named_values, stated_numbers
from pipeline.conversations.validators.rounds import annotated, material, written
from pipeline.conversations.validators.words import VOCABULARY, sentences, words

TOLERANCE_NS = NS_PER_SECOND
"""Of a stated time: clocks show whole seconds, so one less is the same moment seen earlier."""
SMALL = 10
"""Counts up to here may follow from what the annotations list."""
_LISTED = re.compile(r",|;|\band\b|\bor\b|\bwith\b|\banother\b")
_CAPITAL = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_OPENING = re.compile(r"(?:^|\n|[.!?:…][”’\")]*\s+|\s[–—-]\s+)\(?$")
_PLAIN_CAPITALS = frozenset(VOCABULARY["plain_capitals"])
"""Words written with capitals that name nobody."""


def times_grounded(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """A reply states times at which an event begins or ends, or the film does; a question, times within one.

    A reply may repeat its question's time, and what an annotation spells out may be said at any place.
    """
    quoted = {time_ns for text in annotated(request) for _, time_ns in stated_times(text)}
    bounds = {0, request.duration_ns, *quoted, *_bounds(request)}
    for place, question, reply in written(request, turns):
        asked = {time_ns for _, time_ns in stated_times(question)}
        for stated, time_ns in stated_times(question):
            if not (_near(time_ns, bounds) or _during_an_event(request, time_ns)):
                return f"round {place} asks about {stated}, when no annotated event goes on"
        for stated, time_ns in stated_times(reply):
            if not (_near(time_ns, bounds) or time_ns in asked):
                return f"round {place} says {stated}, where no annotated event begins or ends"
    return None


def _bounds(request: Request) -> Iterator[int]:
    for event in request.events:
        yield event.start_ns
        yield event.exclusive_end_ns


def _near(time_ns: int, bounds: set[int]) -> bool:
    return any(abs(time_ns - bound) <= TOLERANCE_NS for bound in bounds)


def _during_an_event(request: Request, time_ns: int) -> bool:
    return any(
        event.start_ns - TOLERANCE_NS <= time_ns <= event.exclusive_end_ns + TOLERANCE_NS
        for event in request.events
    )


def numbers_grounded(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """Numbers stand in the annotations, in digits or in words, or count what they list.

    None, one, first and second are let be, and so is a count up to the longest list in the annotations: `a man
    and a woman` are two people. Events may be told by their place in order, and their lengths in seconds.
    """
    known, listed, events = _known_numbers(request), _longest_list(request), len(request.events)
    seconds = _lengths_s(request)
    for place, *texts in written(request, turns):
        for number in (number for text in texts for number in stated_numbers(text)):
            small = number.value <= min(max(2, events) if number.ordinal else listed, SMALL)
            follows = small or (number.unit.startswith("second") and number.value in seconds)
            if number.value not in known and not follows:
                return f"round {place} says {_shown(number)}, which no annotation gives"
    return None


def _known_numbers(request: Request) -> set[Fraction]:
    text = material(request)
    return {number.value for number in stated_numbers(text)} | named_values(text)


def _longest_list(request: Request) -> int:
    """Members of the longest list in a sentence of the annotations; their events are a list, too."""
    pieces = [sentence for text in annotated(request) for sentence in sentences(text)]
    longest = max((1 + len(_LISTED.findall(piece)) for piece in pieces), default=1)
    return max(longest, len(request.events))


def _lengths_s(request: Request) -> set[Fraction]:
    spans = [event.exclusive_end_ns - event.start_ns for event in request.events]
    lengths = [Fraction(span, NS_PER_SECOND) for span in (*spans, request.duration_ns)]
    return {Fraction(whole) for length in lengths for whole in (math.floor(length), math.ceil(length))}


def _shown(number: Number) -> str:
    return f"{'number ' if number.ordinal else ''}{number.value}"


def names_grounded(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """Words with a capital amid a sentence, names and quoted writing, stand in the annotations.

    A name that begins a sentence cannot be told from any other word, and passes.
    """
    known = {part for word in words(material(request)) for part in _parts(word)}
    for place, *texts in written(request, turns):
        for name in (name for text in texts for name in capitals(text)):
            if not {*_parts(name.lower())} & (known | _PLAIN_CAPITALS):
                return f"round {place} names {name!r}, whom or which no annotation names"
    return None


def capitals(text: str) -> Iterator[str]:
    """Words with a capital that do not begin a sentence, or begin what is quoted; a letter alone is none."""
    for match in _CAPITAL.finditer(text):
        word = match.group()
        if (
            word[0].isupper()
            and len(word) > 1
            and not _OPENING.search(text, max(0, match.start() - 8), match.start())
        ):
            yield word


def _parts(word: str) -> list[str]:
    """A word as it may stand elsewhere: with its apostrophe, without, in the singular; joined words apart."""
    word = word.replace("’", "'")
    pieces = [word, *word.split("-")]
    bare = [piece.partition("'")[0] for piece in pieces]
    return [*pieces, *bare, *(piece.removesuffix("s") for piece in bare if len(piece) > 3)]
