"""Each structural rule refuses what it is named after, lets a good talk through, and is heard in the detail."""

import pytest
from talk_samples import SECOND, event, make_sample

from pipeline.conversations.generator import MAX_CHARACTERS, Request, SpokenTurn, build_request
from pipeline.conversations.validators import STRUCTURAL, first_fault
from schemas.conversation import Turn
from schemas.sample import Caption, QuestionAnswer

GOOD = ["user: What is seen?", "assistant: A cat.", "user: When?", "assistant: At 00:01."]


def request(*annotations, max_turns=3) -> Request:
    made = build_request(make_sample(*(annotations or (Caption(text="A cat."),))), 0, max_turns)
    return made.model_copy(update={"duration_ns": 5 * SECOND - 1})


def turns(lines: list[str]) -> list[SpokenTurn]:
    pairs = (line.split(": ", 1) for line in lines)
    return [SpokenTurn(role=role, content=content) for role, content in pairs]


BAD = [
    ("alternating_roles", []),
    ("alternating_roles", GOOD[:1]),
    ("alternating_roles", GOOD[1:]),
    ("alternating_roles", ["human: Hi", "gpt: Hi"]),
    ("round_limit", [f"{role}: {n}" for n in range(4) for role in ("user", "assistant")]),
    ("content_present", [GOOD[0], "assistant:  \n "]),
    ("content_length", [GOOD[0], "assistant: " + "a" * (MAX_CHARACTERS + 1)]),
    ("distinct_questions", [*GOOD[:2], GOOD[0], "assistant: A dog."]),
    ("no_placeholder", ["user: <image>\nWhat?", GOOD[1]]),
    ("no_placeholder", ["user: <|video_token|> What?", GOOD[1]]),
    ("no_placeholder", [GOOD[0], "assistant: See <image_1>."]),
    ("no_placeholder", [GOOD[0], "assistant: See <Video />."]),
    ("times_within_film", [GOOD[0], "assistant: From 00:01 to 00:06."]),
    ("times_within_film", ["user: What happens at 1:00:00?", GOOD[1]]),
]


@pytest.mark.parametrize(("rule", "lines"), BAD)
def test_a_talk_that_breaks_a_rule_is_refused_in_its_name(rule, lines):
    fault = first_fault(request(), turns(lines))
    assert fault is not None
    assert fault.startswith(f"{rule}: ")


def test_every_rule_is_broken_by_some_talk_above():
    assert {rule for rule, _ in BAD} == {validator.__name__ for validator in STRUCTURAL}


@pytest.mark.parametrize(
    "lines",
    [
        GOOD,
        ["user: One?", "assistant: Yes.", "user: Two?", "assistant: Yes."],
        [GOOD[0], "assistant: " + "a" * MAX_CHARACTERS],
        [GOOD[0], "assistant: The list <list> holds an <imaginary> part, a <b>video</b>."],
        [GOOD[0], "assistant: It ends at 00:05."],  # the film ends within its fifth second
    ],
)
def test_a_good_talk_passes(lines):
    assert first_fault(request(), turns(lines)) is None


def test_a_time_that_the_annotation_spells_out_is_not_a_claim_about_the_film():
    lines = ["user: What does the clock show?", "assistant: 12:40."]
    pair = QuestionAnswer(question="What does the clock show?", answer="12:40.")
    assert first_fault(request(pair), turns(lines)) is None
    assert first_fault(request(Caption(text="The clock shows 12:40.")), turns(lines)) is None
    assert first_fault(request(event(0, 1, "The clock shows 12:40")), turns(lines)) is None
    assert first_fault(request(event(0, 1, "The score is shown")), turns(lines)) is not None


def test_without_a_known_duration_no_time_is_refused():
    unknown = request().model_copy(update={"duration_ns": 0})
    assert first_fault(unknown, turns([GOOD[0], "assistant: At 59:59."])) is None


def test_the_longest_content_let_in_is_the_longest_a_turn_holds():
    Turn(role="user", content="a" * MAX_CHARACTERS)
    with pytest.raises(ValueError, match="at most"):
        Turn(role="user", content="a" * (MAX_CHARACTERS + 1))
