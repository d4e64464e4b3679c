"""What serves a chat model: the seam between who asks and any engine, vLLM in process or an endpoint.

    engine.start()
    completion = await engine.ask(prompt)      # many at once: `slots` keep it full
    engine.stop()

A prompt carries the sample's key and its own address, and the completion carries both back, through the engine.
"""

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import Literal

from pydantic import Field

from pipeline.runtime.contract import ContractError
from schemas.base import InputError, Key, Record, Sha256, digest


class Message(Record):
    """One message of a prompt, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(Record):
    """One request to a chat model: everything that decides the reply, and the sample that it is for."""

    key: Key
    """Of the sample: goes out and comes back; decides nothing."""
    model_sha256: Sha256
    """`digest` of the ChatModelSpec."""
    messages: tuple[Message, ...]
    answer_schema: str
    """JSON Schema of the reply, canonical JSON text: the engine lets the model write nothing else."""
    max_tokens: int = Field(ge=1)
    """Of the reply."""
    temperature: float
    top_p: float
    seed: int = Field(ge=0, lt=2**63)

    @property
    def address(self) -> Sha256:
        """Digest of all that decides the reply: under it a finished reply is kept."""
        return digest(self.model_dump(mode="json", exclude={"key"}))


class Completion(Record):
    """A reply, under the names that went out."""

    key: Key
    address: Sha256
    text: str
    finish: Literal["stop", "length"]
    """`length`: it was cut off at `max_tokens`."""
    prompt_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    """Of the prompt, those that prefix caching spared."""
    output_tokens: int = Field(default=0, ge=0)


class RequestError(Exception):
    """The engine refused this one prompt (too long, an unknown feature) and is well: others go on."""


class EngineLostError(Exception):
    """The engine died, hung or cannot be reached; which prompt was to blame, if any, it does not know."""


class PoisonError(Exception):
    """The engine was lost each time it was asked this prompt, twice with nothing else in flight."""

    def __init__(self, prompt: Prompt, reason: str) -> None:
        super().__init__(f"the prompt of {prompt.key!r} ends the engine each time: {reason}")
        self.prompt = prompt
        self.reason = reason
        """What was seen the last time."""


class BindingError(ContractError):
    """A reply came back under the name of another sample: a bug of the engine, never data."""


def misbound(key: Key, address: Sha256, completion: Completion) -> BindingError | None:
    """Why this is no reply to the prompt of that key and address; None where it is one."""
    if (completion.key, completion.address) == (key, address):
        return None
    return BindingError(
        f"the prompt of {key!r} ({address[:12]}) was answered as {completion.key!r} ({completion.address[:12]}): "
        "let the engine carry both with the text"
    )


def need_vllm() -> None:
    """Raises InputError where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise InputError(
            "vLLM is not installed: pip install 'video-mixture[vllm]' wherever workers run, "
            "or name a server that is up: runtime.engine: {kind: endpoint, url: http://host:8000/v1}"
        )


class Engine(ABC):
    """Serves one chat model. Picklable until `start`; `ask` runs on one event loop, the others on any thread."""

    slots: int = 1
    """Prompts in flight that keep it full, and are not too many."""

    @abstractmethod
    def start(self) -> None:
        """Loads the model; again after a loss, as new. Raises EngineLostError where it cannot."""

    @abstractmethod
    async def ask(self, prompt: Prompt) -> Completion:
        """The reply. Raises RequestError or EngineLostError; cancelling it frees its place in the engine."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it with all of its processes, also one that hangs. Harmless twice, and before `start`."""
