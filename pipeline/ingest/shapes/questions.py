"""What can be said and asked about a film, with exact answers.

Three rules keep a question from giving an answer away. Shapes and colours are drawn
independently, so that naming one tells nothing of the other; a question is asked only in films
among which its answers are equally likely; and questions about the whole film come before those
that name one shape, while no shape is asked for by colour and by kind both.
"""

import random
from typing import Literal

from pipeline.ingest.shapes.scene import COLOURS, DIRECTIONS, KINDS, NANOSECONDS, START_SECONDS, Film, Mover
from schemas.sample import Caption, QuestionAnswer, TimedEvent

_NUMBERS = ("none", "one", "two", "three", "four")

ANSWERS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": KINDS,
    "count": _NUMBERS[1:4],
    "direction": tuple(DIRECTIONS),
    "order": (*KINDS, *COLOURS),
    "total": _NUMBERS[2:5],
    "when": tuple(f"00:{second:02}" for second in START_SECONDS),
}
"""Closed set of answers of each topic."""

EVIDENCE: dict[str, Literal["frame", "time"]] = {
    "colour": "frame",
    "shape": "frame",
    "count": "frame",
    "direction": "time",
    "order": "time",
    "total": "time",
    "when": "time",
}
"""What an answer needs. `frame` topics are asked of films together only, where any frame will do."""

_PHRASES: dict[str, tuple[str, ...]] = {
    "colour": ("What colour is the {thing}?", "Which colour does the {thing} have?"),
    "shape": ("What shape is the {thing}?", "Which shape does the {thing} have?"),
    "count": ("How many shapes are there?", "How many shapes can be seen?"),
    "direction": ("Which way does the {thing} move?", "In which direction does the {thing} move?"),
    "order": ("Which {attribute} appears {place}?", "Which {attribute} is shown {place}?"),
    "total": ("How many shapes appear in all?", "How many shapes are shown in total?"),
    "when": ("When does the {thing} appear (MM:SS)?", "At what time does the {thing} appear (MM:SS)?"),
}

_LEAST_SPAN_NS = 2 * NANOSECONDS
"""Directions are asked of shapes shown at least this long: four frames at 2 fps."""


def caption(film: Film) -> Caption:
    """The whole film in words, times included where they matter."""
    doings = [_doing(mover) for mover in film.movers]
    if film.in_turn:
        sentences = [f"At {_clock(mover)} {text}." for mover, text in zip(film.movers, doings, strict=True)]
        return Caption(text=" ".join(sentences))
    listed = " and ".join(filter(None, [", ".join(doings[:-1]), doings[-1]]))
    return Caption(text=f"{listed[0].upper()}{listed[1:]}.")


def events(film: Film) -> tuple[TimedEvent, ...]:
    """One event a shape: what it does, over the span in which it is shown."""
    return tuple(
        TimedEvent(start_ns=mover.start_ns, exclusive_end_ns=mover.exclusive_end_ns, text=_doing(mover))
        for mover in film.movers
    )


def ask(film: Film, rng: random.Random) -> tuple[QuestionAnswer, ...]:
    """Three to six questions with answers out of `ANSWERS`."""
    questions = _ask_in_turn(film, rng) if film.in_turn else _ask_together(film, rng)
    return tuple(questions)


def _ask_together(film: Film, rng: random.Random) -> list[QuestionAnswer]:
    movers = rng.sample(film.movers, len(film.movers))
    first, *others = movers
    # Films of one shape are three times as frequent as those of two or of three (`scene._FORMS`).
    counted = bool(others) or rng.randrange(3) == 0
    questions = [_ask(rng, "count", _NUMBERS[len(movers)])] if counted else []
    if not others:
        return [
            *questions,
            _ask(rng, "colour", first.colour, thing="object"),
            _ask(rng, "shape", first.kind, thing="object"),
            _ask(rng, "direction", first.direction, thing="object"),
        ]
    second, last = others[0], movers[-1]
    last_thing = f"{last.colour} object" if last is second else last.kind
    return [
        *questions,
        _ask(rng, "colour", first.colour, thing=first.kind),
        _ask(rng, "shape", second.kind, thing=f"{second.colour} object"),
        _ask(rng, "direction", first.direction, thing=first.kind),
        _ask(rng, "direction", last.direction, thing=last_thing),
    ]


def _ask_in_turn(film: Film, rng: random.Random) -> list[QuestionAnswer]:
    movers = rng.sample(film.movers, len(film.movers))
    places = {"first": film.movers[0], "last": film.movers[-1]}
    attributes = rng.sample(("shape", "colour"), 2)
    questions = [_ask(rng, "total", _NUMBERS[len(movers)])]
    for attribute, (place, mover) in zip(attributes, places.items(), strict=True):
        answer = mover.kind if attribute == "shape" else mover.colour
        questions.append(_ask(rng, "order", answer, attribute=attribute, place=place))
    questions += [_ask(rng, "when", _clock(mover), thing=mover.kind) for mover in movers[:2]]
    slow = [mover for mover in movers if mover.exclusive_end_ns - mover.start_ns >= _LEAST_SPAN_NS]
    questions += [_ask(rng, "direction", mover.direction, thing=mover.kind) for mover in slow[:1]]
    return questions


def _ask(rng: random.Random, topic: str, answer: str, **words: str) -> QuestionAnswer:
    question = rng.choice(_PHRASES[topic]).format(**words)
    return QuestionAnswer(question=question, answer=answer, topic=topic, evidence=EVIDENCE[topic])


def _doing(mover: Mover) -> str:
    doing = "stands still" if mover.direction == "still" else f"moves {mover.direction}"
    return f"a {mover.colour} {mover.kind} {doing}"


def _clock(mover: Mover) -> str:
    minutes, seconds = divmod(mover.start_ns // NANOSECONDS, 60)
    return f"{minutes:02}:{seconds:02}"
