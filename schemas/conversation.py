"""`Conversation`: the multi-turn talk made from a sample's annotations."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from schemas.base import Key, Record, Sha256
from schemas.sample import Generator


class Role(StrEnum):
    """Speaker of a turn, by the names that chat templates use."""

    USER = "user"
    ASSISTANT = "assistant"


class Turn(Record):
    """One utterance. Media are not written into it: they come before the first user turn."""

    role: Role
    content: str = Field(min_length=1, max_length=20_000)


class Conversation(Record):
    """Turns that alternate, user first and assistant last."""

    key: Key
    binding_sha256: Sha256
    """`Sample.binding_sha256()` as it came back with the reply."""
    turns: tuple[Turn, ...] = Field(min_length=2)
    generator: Generator
    llm_tokens: int = Field(default=0, ge=0)
    """Of all turns, by the tokenizer of the recipe; 0 where it names none."""

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        roles = [turn.role for turn in self.turns]
        if roles != [Role.USER, Role.ASSISTANT] * (len(roles) // 2):
            raise ValueError(f"turns must alternate user, assistant and end with assistant, got {roles}")
        return self
