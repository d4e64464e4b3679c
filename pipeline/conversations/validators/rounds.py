"""What rules look at: the rounds that a model wrote, and all that the annotations say."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pipeline.conversations.generator import Request, SpokenTurn

Validator = Callable[[Request, Sequence[SpokenTurn]], str | None]


class Written(NamedTuple):
    """A round that a model wrote."""

    place: int
    """Among all rounds of the talk, from 1 on."""
    question: str
    reply: str


def written(request: Request, turns: Sequence[SpokenTurn]) -> Iterator[Written]:
    """The rounds that are not annotated pairs, verbatim."""
    pairs = {(pair.question, pair.answer) for pair in request.questions}
    for index in range(0, len(turns) - 1, 2):
        question, reply = turns[index].content, turns[index + 1].content
        if (question, reply) not in pairs:
            yield Written(index // 2 + 1, question, reply)


def annotated(request: Request) -> Iterator[str]:
    """Every text of the annotations."""
    yield from request.captions
    yield from (event.text for event in request.events)
    for pair in request.questions:
        yield pair.question
        yield pair.answer


def material(request: Request) -> str:
    """All texts of the annotations, one a line."""
    return "\n".join(annotated(request))
