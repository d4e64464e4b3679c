"""`Conversation`: the multi-turn talk made from a sample's annotations."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from schemas.base import Key, Record, Sha256, digest
from schemas.sample import Generator


class Role(StrEnum):
    """Speaker of a turn, by the names that chat templates use."""

    USER = "user"
    ASSISTANT = "assistant"


class Turn(Record):
    """One utterance. Media are not written into it: they come before the first user turn."""

    role: Role
    content: str = Field(min_length=1, max_length=20_000)


def text_digest(key: str, binding_sha256: str, turns: Iterable[tuple[str, str]]) -> Sha256:
    """Ties a text to its sample: of the key, `Sample.binding_sha256()` and (role, content) of each turn."""
    return digest([key, binding_sha256, [{"role": role, "content": content} for role, content in turns]])


class Effort(Record):
    """What it took a chat model to write a talk."""

    tries: int = Field(ge=1)
    """Replies that were asked for."""
    faults: tuple[str, ...] = ()
    """The rule that each reply broke that was refused, in order."""
    prompt_tokens: int = Field(default=0, ge=0)
    """Of all tries together, in the chat model's own tokens."""
    output_tokens: int = Field(default=0, ge=0)


class Conversation(Record):
    """Turns that alternate, user first and assistant last."""

    key: Key
    binding_sha256: Sha256
    """`Sample.binding_sha256()` as it came back with the reply."""
    text_sha256: Sha256
    """`text_digest` as it was when the reply came: a text that is moved to another sample later no longer fits."""
    turns: tuple[Turn, ...] = Field(min_length=2)
    generator: Generator
    llm_tokens: int = Field(default=0, ge=0)
    """Of all turns, by the tokenizer of the recipe; 0 where it names none."""
    effort: Effort | None = None
    """None where no chat model was asked."""
    minhash: str = ""
    """Of a written talk: its MinHash signature, `[126] uint32` little-endian in base64, to find near-copies by."""

    def of_pass(self, key: str, binding_sha256: str) -> Self:
        """The same talk for the same sample in a later pass over its source."""
        said = [(turn.role.value, turn.content) for turn in self.turns]
        # What no longer fits its sample must not be made to fit again.
        fits = self.text_sha256 == text_digest(self.key, self.binding_sha256, said)
        text = text_digest(key, binding_sha256, said) if fits else self.text_sha256
        return self.model_copy(update={"key": key, "binding_sha256": binding_sha256, "text_sha256": text})

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        roles = [turn.role for turn in self.turns]
        if roles != [Role.USER, Role.ASSISTANT] * (len(roles) // 2):
            raise ValueError(f"turns must alternate user, assistant and end with assistant, got {roles}")
        return self
