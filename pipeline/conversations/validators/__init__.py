"""What a talk must be before it is let in: small rules, each with a name, tried in order.

A rule is a function of a request and the turns that came back. It returns None where the talk keeps it,
and otherwise what was seen and what was expected. `STRUCTURAL` rules are of any talk, whoever wrote it;
`STRICT` ones also judge what a model wrote, never the annotated pairs that stand in the talk as they are.
"""

from collections.abc import Mapping, Sequence

from pipeline.conversations.generator import Fault, Request, SpokenTurn
from pipeline.conversations.validators.answers import count_told, on_topic, time_told, yes_or_no_told
from pipeline.conversations.validators.copies import no_echo, no_loops, no_near_copies
from pipeline.conversations.validators.grounding import names_grounded, numbers_grounded, times_grounded
from pipeline.conversations.validators.rounds import Validator
from pipeline.conversations.validators.speech import (
    asks_something,
    english,
    finished,
    no_markup,
    plain_length,
)
from pipeline.conversations.validators.structure import (
    alternating_roles,
    content_length,
    content_present,
    distinct_questions,
    no_placeholder,
    round_limit,
    times_within_film,
)
from pipeline.conversations.validators.voice import no_leak, no_refusal

STRUCTURAL: tuple[Validator, ...] = (
    alternating_roles,
    round_limit,
    content_present,
    content_length,
    distinct_questions,
    no_placeholder,
    times_within_film,
)
STRICT: tuple[Validator, ...] = (
    *STRUCTURAL,
    no_markup,
    english,
    plain_length,
    asks_something,
    finished,
    no_refusal,
    no_leak,
    no_loops,
    no_near_copies,
    no_echo,
    times_grounded,
    numbers_grounded,
    names_grounded,
    yes_or_no_told,
    time_told,
    count_told,
    on_topic,
)
RULES: Mapping[str, tuple[Validator, ...]] = {"structural": STRUCTURAL, "strict": STRICT}
"""By the names that a recipe has for them."""


def find_fault(request: Request, turns: Sequence[SpokenTurn], rules: Sequence[Validator]) -> Fault | None:
    """The first of `rules` that `turns` break."""
    for rule in rules:
        if seen := rule(request, turns):
            return Fault(rule.__name__, seen)
    return None


def first_fault(
    request: Request, turns: Sequence[SpokenTurn], rules: Sequence[Validator] = STRUCTURAL
) -> str | None:
    """`rule: what was seen` of the first rule that `turns` break, or None."""
    fault = find_fault(request, turns, rules)
    return str(fault) if fault else None
