"""Laws of the strict rules: each catches its planted fault, alone, and honest talk passes them all."""

import pytest
from talk_scenes import Fault, Talk, faults, good_talks, request_of, scenes, turns

from pipeline.conversations.generator import Request, SpokenTurn
from pipeline.conversations.template import TemplateGenerator
from pipeline.conversations.validators import RULES, STRICT, STRUCTURAL, find_fault
from pipeline.conversations.validators.grounding import capitals
from pipeline.conversations.validators.numbers import stated_numbers

GOOD = list(good_talks())
FAULTS = list(faults())


def fault_of(talk: Talk, rules=STRICT) -> str | None:
    fault = find_fault(talk.request, talk.turns, rules)
    return str(fault) if fault else None


@pytest.mark.parametrize("talk", GOOD, ids=lambda talk: talk.name)
def test_an_honest_talk_passes_every_rule(talk):
    assert fault_of(talk) is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.talk.name)
def test_a_planted_fault_is_caught_by_the_rule_that_is_named_after_it_and_its_clean_twin_passes(fault: Fault):
    found = find_fault(fault.talk.request, fault.talk.turns, STRICT)
    assert found is not None
    assert found.rule == fault.rule
    assert fault_of(fault.twin) is None


@pytest.mark.parametrize("rule", STRICT, ids=lambda rule: rule.__name__)
def test_every_rule_catches_a_fault_that_no_other_rule_of_its_kind_catches(rule):
    kind = STRUCTURAL if rule in STRUCTURAL else STRICT
    others = [other for other in kind if other is not rule]
    rows = [fault for fault in FAULTS if fault.rule == rule.__name__]
    assert rows
    assert any(fault_of(fault.talk, others) is None for fault in rows)


def test_there_are_enough_of_both():
    assert len(GOOD) >= 25
    assert len(FAULTS) >= 60
    assert len({rule.__name__ for rule in STRICT}) == len(STRICT)
    assert set(RULES["structural"]) < set(RULES["strict"])


def test_annotated_pairs_are_not_judged_by_what_is_asked_of_a_model():
    """A pair as data sets have them: terse, with a name and a number that no caption has."""
    pair = "Where, acc. to the caption, is Bob at 00:07\nI cannot tell, 17 x **left**"
    request = request_of({"name": "pairs", "questions": [pair], "duration_s": 5})
    own = turns(pair)
    assert find_fault(request, own, [rule for rule in STRICT if rule.__name__ != "times_within_film"]) is None
    other = request_of({"name": "pairs", "captions": ["A cat."], "duration_s": 9})
    assert find_fault(other, own, STRICT) is not None


@pytest.mark.parametrize("scene", scenes(), ids=lambda scene: scene["name"])
def test_what_a_template_says_of_the_same_notes_passes_the_rules_of_grounding_too(scene):
    request = request_of(scene)
    (reply,) = TemplateGenerator().generate([request])
    grounding = [rule for rule in STRICT if rule.__name__.endswith(("_grounded", "_told"))]
    assert find_fault(request, reply.turns, grounding) is None


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Twenty-five men, one hundred and two dogs, 1,200 cats", [25, 102, 1200]),
        ("the 21st of two or three", [21, 2, 3]),
        ("two thousand three hundred and five", [2305]),
        ("three and four", [3, 4]),
        ("a hundred and more", []),
        ("at 00:12 and 1:02:03, until 9.5 s", [9.5]),
        ("the thirty-first, the fifth, the twentieth", [31, 5, 20]),
        ("number 10 of x2 and R2D2", [10]),
        ("nine nine", [9, 9]),
    ],
)
def test_numbers_are_read_in_digits_and_in_words(text, values):
    assert [number.value for number in stated_numbers(text)] == values


def test_a_capital_at_the_beginning_of_a_sentence_is_no_name():
    text = "The man met Ann. He said: Well, “Bob” is here… Then I left – No, Eve’s dog, a T-shirt, left."
    assert list(capitals(text)) == ["Ann", "Bob", "Eve’s"]
    assert list(capitals("“Open”, it reads. And: “Closed”. (Still true.)")) == ["Open", "Closed"]


def test_vague_questions_are_not_taken_for_copies_nor_those_that_turn_round_who_does_what():
    request = request_of({"name": "a", "captions": ["A dog follows a man."], "duration_s": 20})
    lines = ("What is it?", "A dog.", "What is there?", "A man.")
    asked = ("Does the dog follow the man?", "Yes.", "Does the man follow the dog?", "No.")
    assert find_fault(request, turns("\n".join((*lines, *asked))), STRICT) is None


def twin(request: Request, question: str, reply: str) -> str | None:
    spoken = (SpokenTurn(role="user", content=question), SpokenTurn(role="assistant", content=reply))
    fault = find_fault(request, spoken, STRICT)
    return fault.rule if fault else None


@pytest.mark.parametrize(
    ("question", "reply", "rule"),
    [
        ("When does she fall?", "At 00:06.", None),
        ("When does she fall?", "At 00:07.", "times_grounded"),
        ("What happens at 00:08?", "She falls.", None),
        ("What happens at 00:12?", "She falls.", "times_grounded"),
        ("What happens at 00:08?", "At 00:08, she falls.", None),
        ("When does the video end?", "At 00:20.", None),
        ("When does the video start?", "At 00:00.", None),
        ("How long does she fall?", "For five seconds.", None),
        ("How long does she fall?", "For nine seconds.", "numbers_grounded"),
    ],
)
def test_a_stated_time_is_that_of_an_event_within_a_second(question, reply, rule):
    request = request_of({"name": "a", "events": [[5, 10, "She falls."]], "duration_s": 20})
    assert twin(request, question, reply) == rule


@pytest.mark.parametrize(
    ("caption", "reply", "rule"),
    [
        ("A man and a woman dance.", "Two people.", None),
        ("A man and a woman dance.", "Three people.", "numbers_grounded"),
        ("A man, a woman and a child dance.", "Three people.", None),
        ("Both men dance.", "Two people.", None),
        ("A dozen men dance.", "There are 12 people.", None),
        ("12 men dance.", "A dozen or twelve people.", None),
        ("Men dance.", "There is no one there, not one of them.", None),
        ("Men dance.", "Men dance, the third one is in a hat.", "numbers_grounded"),
    ],
)
def test_small_counts_may_follow_from_what_is_listed(caption, reply, rule):
    request = request_of({"name": "a", "captions": [caption], "duration_s": 20})
    assert twin(request, "How many people dance there?", reply) == rule


def test_a_film_without_annotations_of_time_has_no_stated_times():
    request = request_of({"name": "a", "captions": ["A man falls."], "duration_s": 20})
    assert twin(request, "When does he fall?", "He falls at 00:09.") == "times_grounded"
    assert twin(request, "When does he fall?", "At once.") is None
