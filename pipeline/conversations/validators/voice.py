"""Rules of who speaks: one who watches, not an assistant that refuses, nor one that has read something."""

import re
from collections.abc import Iterable, Iterator, Sequence

from pipeline.conversations.generator import Request, SpokenTurn
from pipeline.conversations.validators.rounds import material, written
from pipeline.conversations.validators.words import words


def _any(phrases: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b{phrase}\b" for phrase in phrases), re.IGNORECASE)


_PERCEIVE = (
    "see|view|watch|hear|tell|say|determine|know|provide|answer|assist|help|access|identify|confirm|describe"
)
_REFUSAL = _any(
    (
        "as an? (?:AI|artificial|(?:large )?language model|text-based|assistant)",
        "I(?:'m| am) (?:an? (?:AI|language model)|(?:so |very )?sorry|afraid|unable|not able|unsure|not sure)",
        f"I (?:cannot|can't|can not|could not|couldn't) (?:\\w+ly )?(?:{_PERCEIVE})",
        "I (?:don't|do not) (?:have|know)",
        "I apologi[sz]e",
        "(?:impossible|not possible|difficult|hard) to (?:determine|say|tell|know|answer)",
        "(?:cannot|can't|could not|can not) be (?:determined|known|answered)",
        "(?:no|not enough|insufficient) (?:information|details?|context|mention)",
    )
)

_SOURCE = "captions?|descriptions?|annotations?|annotators?|transcripts?|notes?|metadata"
"""What nobody in a talk has read."""
_TELLS = "mentions?|describes?|indicates?|states?|impl(?:y|ies)|specif(?:y|ies)|suggests?|provides?"
_OF_THE = "(?:the|this|that|these|your) (?:(?:video|film|image|picture|scene|provided|given|above)(?:'s)? )*"
_LEAKS = _any(
    (
        f"(?:according to|based (?:up)?on|as per|per|from|in) {_OF_THE}(?:{_SOURCE})",
        "(?:according to|based (?:up)?on|as per) (?:the|this|that|these) (?:\\w+ )?"
        "(?:text|passage|information|details?|context|data|summary|prompt|timestamps?|events?)",
        f"{_OF_THE}(?:{_SOURCE}) (?:says?|notes?|tells?|does|do|doesn't|don't|is|are|only|{_TELLS})",
        f"the (?:text|passage|information|data) (?:{_TELLS})",
        f"(?:provided|given|supplied|available) (?:information|text|details?|context|data|timestamps?|{_SOURCE})",
        "(?:is|are|was|were|isn't|aren't|wasn't|not|never) (?:\\w+ly )?(?:mentioned|specified|annotated)",
        "(?:as|not|isn't|aren't) (?:explicitly |clearly )?(?:mentioned|described|stated|noted|specified|annotated)",
        "(?:question-answer pairs?|ground truth|sample id|JSON)",
    )
)
_SHOWABLE = re.compile(rf"\b(?:{_SOURCE})\b", re.IGNORECASE)


def no_refusal(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """The assistant does not refuse, nor speak of what it is."""
    for place, _, reply in written(request, turns):
        if found := _REFUSAL.search(reply.replace("’", "'")):
            return f"round {place} refuses: {found.group()!r}"
    return None


def no_leak(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """Nobody speaks of captions and notes, unless the film itself shows such a thing: a note on a door."""
    shown = set(words(material(request)))
    for place, *texts in written(request, turns):
        for leak in (leak for text in texts for leak in _leaks(text)):
            named = {word.lower() for word in _SHOWABLE.findall(leak)}
            if not named or named - shown:
                return f"round {place} speaks of its source: {leak!r}"
    return None


def _leaks(text: str) -> Iterator[str]:
    return (match.group() for match in _LEAKS.finditer(text.replace("’", "'")))
