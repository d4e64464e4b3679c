"""Annotated pairs and the rounds that a model adds: how many, and where they stand.

    [written rounds]  annotated pairs, verbatim and in their order  [written rounds]

The pairs stay together, as one may lean on the one before it; where they stand is drawn.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from pipeline.conversations.generator import Request, SpokenTurn
from pipeline.conversations.talk_schema import Round
from schemas.conversation import Role
from schemas.sample import Modality

WORDS_A_ROUND = 12
"""Of a caption, that carry one round: about a clause."""


class Layout(NamedTuple):
    """What a talk will be made of."""

    pairs: tuple[Round, ...]
    """The annotated ones, each once."""
    least: int
    """Fewest rounds to be written; 0 where none are."""
    most: int
    """Most rounds to be written, as drawn."""


def lay_out(request: Request) -> Layout:
    """Of the rounds wanted, in [min_turns, max_turns], those that the pairs leave over.

    Drawn by the request's seed among what the material can carry, though never below `min_turns`. Nothing is
    written where the pairs fill the talk, nor about a text, which shows nothing that could be watched.
    """
    pairs = tuple(dict.fromkeys(Round(question=pair.question, reply=pair.answer) for pair in request.questions))
    room = request.max_turns - len(pairs)
    if room <= 0 or request.modality is Modality.TEXT:
        return Layout(pairs, 0, 0)
    least = max(1, request.min_turns - len(pairs))
    top = max(least, min(room, carried(request)))
    return Layout(pairs, least, Random(f"{request.seed}/rounds").randint(least, top))


def carried(request: Request) -> int:
    """Rounds that the material can carry beside the pairs themselves; captions tell the same, so one counts."""
    words = max((len(text.split()) for text in request.captions), default=0)
    return 1 + words // WORDS_A_ROUND + len(request.events) + len(request.questions) // 2


def merged(request: Request, pairs: Sequence[Round], written: Sequence[Round]) -> tuple[SpokenTurn, ...]:
    """The whole talk; where the pairs stand among the written rounds is drawn by the request's seed."""
    place = Random(f"{request.seed}/place").randint(0, len(written))
    return tuple(_turns([*written[:place], *pairs, *written[place:]]))


def _turns(rounds: Sequence[Round]) -> Iterator[SpokenTurn]:
    for each in rounds:
        yield SpokenTurn(role=Role.USER, content=each.question)
        yield SpokenTurn(role=Role.ASSISTANT, content=each.reply)
