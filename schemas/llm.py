"""Chat models that write talk: which one, how it is sampled, and the engine that serves it.

    conversations: {generator: model, model: llama-3.1-70b-instruct-fp8}
    runtime: {engine: {kind: vllm, tensor_parallel: 4}}

`ChatModelSpec` decides what is written and is part of every fingerprint; `EngineSpec` decides how fast.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from schemas.base import Record


class ChatModelSpec(Record):
    """A chat model and how it is asked: all that decides a reply, beside the prompt and the seed."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$",
        description="As provenance and gates name it, and as an endpoint serves it.",
    )
    model: str = Field(
        min_length=1, description="Folder of a checkpoint, or its name on the Hugging Face hub (vLLM loads it)."
    )
    revision: str = Field(default="", description="Commit of the checkpoint on the hub; pin it for a real mixture.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Of weights and activations, as vLLM names it."
    )
    quantization: Literal["", "fp8"] = Field(
        default="", description="`fp8` halves the weights' memory on GPUs that have it (Hopper, Ada)."
    )
    max_model_len: int = Field(
        default=8192, ge=256, le=131_072,
        description="Longest prompt and reply together, in tokens. Raising it takes memory from the batch.",
    )  # fmt: skip
    temperature: float = Field(default=0.7, ge=0, le=2, description="Raising it gives more varied talk.")
    top_p: float = Field(default=0.95, gt=0, le=1, description="Share of probability that is sampled from.")


class EngineSpec(Record):
    """What serves the chat model. Changes speed only, as far as the engine's arithmetic lets it."""

    kind: Literal["vllm", "endpoint"] = Field(
        default="vllm", description="`vllm` loads the model in each worker; `endpoint` asks a server that has it."
    )
    url: str = Field(
        default="",
        description="Base of an OpenAI-compatible endpoint, say http://host:8000/v1 of `vllm serve`.",
    )
    api_key_env: str = Field(
        default="", description="Environment variable that holds the endpoint's key; never the key itself."
    )
    tensor_parallel: int = Field(default=1, ge=1, le=64, description="GPUs of one node that share the model.")
    max_num_seqs: int = Field(
        default=256,
        ge=1,
        le=8192,
        description="Requests in work at once; raising it takes memory for tokens.",
    )
    gpu_memory_utilization: float = Field(
        default=0.92, gt=0, le=1, description="Share of a GPU's memory for weights and tokens."
    )
    prefix_caching: bool = Field(default=True, description="Whether what prompts begin alike is computed once.")
    stall_s: float = Field(
        default=300.0, gt=0,
        description="An engine that answers nobody for so long has hung, and is started again; longer than the "
        "longest reply takes.",
    )  # fmt: skip
    options: dict[str, Any] = Field(
        default_factory=dict, description="More arguments of vLLM's AsyncEngineArgs, by their names there."
    )


class AllowanceSpec(Record):
    """What talk may cost. A build that would pass it stops; with a larger one the same command goes on."""

    tokens: int | None = Field(default=None, ge=1, description="Of prompts and replies together; none is no bound.")
    usd: float | None = Field(default=None, gt=0, description="Money; needs the prices.")
    usd_per_million_input: float = Field(default=0.0, ge=0, description="Price of a million tokens of prompts.")
    usd_per_million_output: float = Field(default=0.0, ge=0, description="Price of a million tokens of replies.")


class ChatPreset(Record):
    """A chat model with an engine that suits it."""

    model: ChatModelSpec
    engine: EngineSpec


CHAT_PRESETS: Mapping[str, ChatPreset] = {}
"""By name."""


def _named(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in CHAT_PRESETS:
        raise ValueError(f"no chat model {value!r}: name one of {', '.join(CHAT_PRESETS)}, or give its fields")
    return CHAT_PRESETS[value].model


ChatModel = Annotated[ChatModelSpec, BeforeValidator(_named)]
"""Of a recipe: the name of a preset, or the fields."""


def preset_engine(model: ChatModelSpec | None) -> EngineSpec | None:
    """The engine of the preset that is this model; None where there is none."""
    return next((preset.engine for preset in CHAT_PRESETS.values() if preset.model == model), None)
