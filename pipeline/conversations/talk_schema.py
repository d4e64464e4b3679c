"""The form of a reply: one pydantic model, as JSON Schema for guided decoding and to read the text back.

    {"id": "3fa9c1d2", "rounds": [{"question": "What is seen?", "reply": "A cat."}, ...]}

Engines have a reply's fields written in the order of the schema, and canonical JSON sorts: so the names are
such that by the alphabet, too, the id comes first and a question before its reply.

Strings are bounded by their patterns, anchored, with no `maxLength` beside: xgrammar refuses the two together,
and guidance searches where there are no anchors. What a pattern leaves out needs no escape in JSON (quotes,
backslash, controls), so white space cannot go on without end; markup and placeholders cannot be written at all.
"""

import json
from functools import cache
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError, create_model
from pydantic_core import from_json

from pipeline.conversations.engine import BindingError
from pipeline.conversations.generator import Fault, Request
from schemas.base import Record, canonical_json, digest

_FIRST = "[A-Z0-9À-Þ“‘']"
_PLAIN = "[ !#-)+-;=?-Z_a-z¡-ɏ–—‘’“”…€]"
"""Latin letters, digits, punctuation; without `"`, `\\`, `*`, backtick, and all brackets but round ones."""
_BYTES = 3
"""Most bytes of such a character in UTF-8, so most tokens of a byte-level tokenizer."""
_ROUND = len('{"question":"","reply":""},')
_ENVELOPE = len('{"id":"00000000","rounds":[]}') + 8
_ID = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]


class Limits(Record):
    """Longest texts of a round that a model writes, in characters."""

    question: int = Field(default=200, ge=16, le=2_000, description="Of a question.")
    reply: int = Field(default=600, ge=16, le=4_000, description="Of a reply; 600 are about 100 words.")


class Round(Record):
    """What the person asks and what the assistant replies, as a model writes it."""

    question: str
    reply: str


class Talk(Record):
    """The whole reply of a model."""

    id: _ID
    rounds: tuple[Round, ...]


def nonce(request: Request) -> str:
    """Eight hex digits that only the reply to `request` carries: they tell a swap that an engine does not see."""
    return digest([request.key, request.binding_sha256])[:8]


def answer_schema(request: Request, least: int, most: int, limits: Limits) -> str:
    """JSON Schema of a reply to `request` of `least` to `most` rounds, canonical JSON."""
    schema = json.loads(_schema(least, most, limits))
    schema["properties"]["id"] = {"const": nonce(request)}
    return canonical_json(schema)


def most_tokens(most: int, limits: Limits) -> int:
    """Tokens of the longest reply of `most` rounds, with a tokenizer that gives every byte one of its own."""
    return _ENVELOPE + most * (_ROUND + _BYTES * (limits.question + limits.reply))


def parse(text: str, request: Request, least: int, most: int, limits: Limits) -> tuple[Round, ...] | Fault:
    """The rounds of a reply, or why it is none. Raises BindingError where it is the reply to another request."""
    try:
        value = from_json(text)
    except ValueError as error:
        return Fault("schema", f"no JSON: {error}")
    _check_nonce(value, request)
    try:
        bounded = _model(least, most, limits).model_validate(value).rounds
        return tuple(Round(question=each.question, reply=each.reply) for each in bounded)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return Fault("schema", f"{'.'.join(map(str, first['loc'])) or 'reply'}: {first['msg'][:500]}")


def _check_nonce(value: Any, request: Request) -> None:
    """An id of another form is no other request's: some engine let the model write what it liked."""
    found, expected = value.get("id") if isinstance(value, dict) else None, nonce(request)
    if isinstance(found, str) and len(found) == len(expected) and found != expected and _is_hex(found):
        raise BindingError(
            f"the reply to {request.key!r} has the id {found}, not {expected}: it was written for another sample; "
            "let the engine carry key and address with the text"
        )


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)


@cache
def _model(least: int, most: int, limits: Limits) -> type[Talk]:
    question, reply = (_text(least_, most_) for least_, most_ in ((8, limits.question), (2, limits.reply)))
    bounded = create_model("Round", __base__=Round, question=(question, ...), reply=(reply, ...))
    rounds = Annotated[tuple[bounded, ...], Field(min_length=least, max_length=most)]
    return create_model("Talk", __base__=Talk, rounds=(rounds, ...))


def _text(least: int, most: int) -> Any:
    return Annotated[str, StringConstraints(pattern=f"^{_FIRST}{_PLAIN}{{{least - 1},{most - 1}}}$")]


@cache
def _schema(least: int, most: int, limits: Limits) -> str:
    return canonical_json(_bare(_model(least, most, limits).model_json_schema()))


def _bare(node: Any) -> Any:
    """Without titles and docstrings: they bind nothing, and are read by no model."""
    if isinstance(node, list):
        return [_bare(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {name: _bare(each) for name, each in node.items() if name not in ("title", "description")}
