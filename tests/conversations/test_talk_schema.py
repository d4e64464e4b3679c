"""Laws of a reply's form: what the schema lets through is read back, all else is a fault, a swap is heard."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk_scenes import request_of, scenes

from pipeline.conversations.engine import BindingError
from pipeline.conversations.generator import Fault
from pipeline.conversations.talk_schema import Limits, Round, Talk, answer_schema, most_tokens, nonce, parse
from schemas.base import canonical_json

REQUEST = request_of(scenes()[0])
OTHER = request_of(scenes()[1])
LIMITS = Limits(question=40, reply=60)
LEAST, MOST = 2, 4
SCHEMA = json.loads(answer_schema(REQUEST, LEAST, MOST, LIMITS))
GOOD = {"id": nonce(REQUEST), "rounds": [{"question": f"Is it {n} cats?", "reply": "No."} for n in range(MOST)]}


def patterns() -> tuple[str, str]:
    fields = SCHEMA["$defs"]["Round"]["properties"]
    return fields["question"]["pattern"], fields["reply"]["pattern"]


def strings(pattern: str, limit: int) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True) | st.just("A" * limit) | st.just("A" + "€" * (limit - 1))


rounds = st.builds(
    lambda question, reply: {"question": question, "reply": reply},
    strings(patterns()[0], LIMITS.question),
    strings(patterns()[1], LIMITS.reply),
)
replies = st.builds(
    lambda rounds: {"id": nonce(REQUEST), "rounds": rounds}, st.lists(rounds, min_size=LEAST, max_size=MOST)
)


def read(value: object, request=REQUEST) -> tuple[Round, ...] | Fault:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return parse(text, request, LEAST, MOST, LIMITS)


@given(replies)
def test_what_the_schema_lets_through_is_read_back_as_it_is_and_fits_its_tokens(reply):
    jsonschema.validate(reply, SCHEMA)
    assert [each.model_dump() for each in read(reply)] == reply["rounds"]
    text = json.dumps(reply, ensure_ascii=False, separators=(",", ":"))
    assert len(text.encode()) <= most_tokens(MOST, LIMITS)
    assert "\\" not in text  # nothing has to be escaped


def test_the_bound_of_tokens_is_reached_by_no_more_than_a_few():
    longest = [{"question": "A" + "€" * 39, "reply": "A" + "€" * 59}] * MOST
    text = json.dumps({"id": nonce(REQUEST), "rounds": longest}, ensure_ascii=False, separators=(",", ":"))
    assert 0 <= most_tokens(MOST, LIMITS) - len(text.encode()) < 40


NO_TALK = {
    "an empty text": "",
    "no JSON": "Certainly! Here is the talk:",
    "cut off": json.dumps(GOOD)[:-3],
    "a raw line break": json.dumps(GOOD).replace("No.", "No.\n"),
    "a list": [GOOD],
    "nothing": None,
    "a number": "7",
    "too few rounds": GOOD | {"rounds": GOOD["rounds"][:1]},
    "too many": GOOD | {"rounds": GOOD["rounds"] * 2},
    "rounds that are none": GOOD | {"rounds": "two"},
    "one more field": GOOD | {"score": 1},
    "one field less": {"rounds": GOOD["rounds"]},
    "one more field of a round": GOOD | {"rounds": [*GOOD["rounds"][:3], GOOD["rounds"][3] | {"time": "00:01"}]},
    "a reply that is a number": GOOD | {"rounds": [*GOOD["rounds"][:3], {"question": "Is it a cat?", "reply": 1}]},
    "an id of another form": GOOD | {"id": "example"},
    "an id of another alphabet": GOOD | {"id": "anything"},
    "an id that is a number": GOOD | {"id": 12345678},
    **{
        f"a reply of {text!r}": GOOD
        | {"rounds": [*GOOD["rounds"][:3], {"question": "Is it a cat?", "reply": text}]}
        for text in ("", "N", " No.", "A" * 61, 'A "cat".', "A\ncat.", "**A** cat", "A <image>.", "Да.", "A\tcat.")
    },
}


@pytest.mark.parametrize("fault", NO_TALK)
def test_what_the_schema_does_not_let_through_is_a_fault_of_the_schema(fault):
    found = read(NO_TALK[fault])
    assert isinstance(found, Fault)
    assert found.rule == "schema"
    assert found.seen


@pytest.mark.parametrize("fault", [name for name, value in NO_TALK.items() if isinstance(value, dict)])
def test_engine_and_reader_hold_the_same_schema(fault):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(NO_TALK[fault], SCHEMA)


def test_a_reply_to_another_request_stops_the_run_whatever_else_is_wrong_with_it():
    with pytest.raises(BindingError, match="another sample"):
        read(GOOD, OTHER)
    with pytest.raises(BindingError):
        read({"id": nonce(OTHER), "rounds": None})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(GOOD | {"id": nonce(OTHER)}, SCHEMA)


def test_an_id_is_of_key_and_binding():
    same = REQUEST.model_copy(update={"seed": 1, "max_turns": 9})
    assert nonce(same) == nonce(REQUEST)
    assert nonce(REQUEST.model_copy(update={"key": "b"})) != nonce(REQUEST)
    assert nonce(REQUEST.model_copy(update={"binding_sha256": "1" * 64})) != nonce(REQUEST)


def test_a_schema_holds_what_guidance_and_xgrammar_take():
    text = answer_schema(REQUEST, LEAST, MOST, LIMITS)
    assert text == canonical_json(SCHEMA)
    assert "uniqueItems" not in text
    assert "maxLength" not in text  # xgrammar refuses it beside a pattern
    for node in nodes(SCHEMA):
        if node.get("type") == "string":
            assert node["pattern"].startswith("^")
            assert node["pattern"].endswith("}$")  # counted, and anchored
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert sorted(node["required"]) == sorted(node["properties"])
        if node.get("type") == "array":
            assert (node["minItems"], node["maxItems"]) == (LEAST, MOST)


def nodes(node: object) -> list[dict]:
    if isinstance(node, list):
        return [found for each in node for found in nodes(each)]
    if not isinstance(node, dict):
        return []
    return [node, *(found for each in node.values() for found in nodes(each))]


@pytest.mark.parametrize("record", [Talk, Round])
def test_fields_are_named_so_that_sorted_json_has_a_question_written_before_its_reply(record):
    assert list(record.model_fields) == sorted(record.model_fields)
