"""Rules of any talk, whoever wrote it: its form, and times that its film has."""

import re
from collections.abc import Sequence

from pipeline.conversations.clock import NS_PER_SECOND, clock, stated_times
from pipeline.conversations.generator import MAX_CHARACTERS, Request, SpokenTurn
from pipeline.conversations.validators.rounds import annotated
from schemas.conversation import Role

_PLACEHOLDER = re.compile(
    r"<\|?/?(?:image|img|video|vid|vision|audio|media|frame)"
    r"(?:[_ -]?(?:\d+|token|start|end|pad|patch|placeholder))*[ ]?/?\|?>",
    re.IGNORECASE,
)


def alternating_roles(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """User first, assistant last, in turn."""
    roles = [turn.role for turn in turns]
    if roles and roles == [Role.USER, Role.ASSISTANT] * (len(roles) // 2):
        return None
    return f"expected user, assistant, ... ending with assistant; got {', '.join(roles) or 'no turns'}"


def round_limit(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """No more rounds than were asked for."""
    rounds = len(turns) // 2
    return f"{rounds} rounds, asked for at most {request.max_turns}" if rounds > request.max_turns else None


def content_present(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """Every turn says something."""
    blank = [str(index) for index, turn in enumerate(turns) if not turn.content.strip()]
    return f"turn {', '.join(blank)} is blank" if blank else None


def content_length(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """No turn runs on past what a `Turn` may hold."""
    for index, turn in enumerate(turns):
        if len(turn.content) > MAX_CHARACTERS:
            return f"turn {index} has {len(turn.content)} characters, at most {MAX_CHARACTERS} are allowed"
    return None


def distinct_questions(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """Nothing is asked twice. Answers may recur: `Yes.` is right as often as it is right."""
    asked: set[str] = set()
    for turn in turns:
        if turn.role != Role.USER:
            continue
        if turn.content in asked:
            return f"asked twice: {turn.content[:200]!r}; keep one of its answers"
        asked.add(turn.content)
    return None


def no_placeholder(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """No `<image>` or `<video>` of another format: media stand before the first turn, unwritten."""
    for index, turn in enumerate(turns):
        if found := _PLACEHOLDER.search(turn.content):
            return f"turn {index} contains the media placeholder {found.group()!r}; strip it from the annotation"
    return None


def times_within_film(request: Request, turns: Sequence[SpokenTurn]) -> str | None:
    """A time that is stated as MM:SS lies within the sample's span.

    A time that the captions, questions or answers spell out themselves is let be: a scoreboard
    may well show 12:40 in a film of five seconds. Times are whole seconds, so the last one counts whole.
    """
    if not request.duration_ns:
        return None
    quoted = {stated for text in annotated(request) for stated, _ in stated_times(text)}
    last_ns = -(-request.duration_ns // NS_PER_SECOND) * NS_PER_SECOND
    for index, turn in enumerate(turns):
        for stated, time_ns in stated_times(turn.content):
            if time_ns > last_ns and stated not in quoted:
                return f"turn {index} speaks of {stated}, but the film ends at {clock(request.duration_ns)}"
    return None
