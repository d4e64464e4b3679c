"""Prompts for a talk of two to six turns, and the schema that a reply must keep to."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.conversations.engine import Message, Prompt
from schemas.base import canonical_json, sha256_text

INSTRUCTION = "You write a talk about a film between a user and an assistant, in turns. " * 12


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Said(Strict):
    role: Literal["user", "assistant"]
    content: str = Field(min_length=1, max_length=80)


class Talk(Strict):
    turns: list[Said] = Field(min_length=2, max_length=6)
    kind: Literal["reasoning", "captioning", "temporal perception"]
    rounds: int = Field(ge=1, le=8)


def prompt_of(number: int, content: str = "", schema: str = "") -> Prompt:
    """Of one film; each has a seed of its own."""
    said = content or f"Film {number}: a person opens door {number} and leaves at 00:{number % 60:02d}."
    return Prompt(
        key=f"film-{number}",
        model_sha256=sha256_text("tiny"),
        messages=(Message(role="system", content=INSTRUCTION), Message(role="user", content=said)),
        answer_schema=schema or canonical_json(Talk.model_json_schema()),
        max_tokens=640,
        temperature=1.0,
        top_p=1.0,
        seed=1000 + number,
    )
