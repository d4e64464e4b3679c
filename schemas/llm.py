"""Chat models that write talk: which one, how it is sampled, and the engine that serves it.

    conversations: {generator: model, model: llama-3.1-70b-instruct-fp8}
    runtime: {engine: {kind: vllm, tensor_parallel: 4}}

`ChatModelSpec` decides what is written and is part of every fingerprint; `EngineSpec` decides how fast.
"""

from collections.abc import Mapping
from fractions import Fraction
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

    @property
    def speed_class(self) -> str:
        """What decides how fast it reads and writes, on given devices."""
        return f"{self.model} {self.quantization or self.dtype}"


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
    batch_invariant: bool = Field(
        default=False,
        description="vLLM's batch-invariant kernels (beta; compute capability 8.0 and newer): a reply depends "
        "no longer on what else is in the batch. Costs speed.",
    )
    stall_s: float = Field(
        default=300.0, gt=0,
        description="An engine that answers nobody for so long has hung, and is started again; longer than the "
        "longest reply takes.",
    )  # fmt: skip
    options: dict[str, Any] = Field(
        default_factory=dict, description="More arguments of vLLM's AsyncEngineArgs, by their names there."
    )


class TokenPrices(Record):
    """US dollars a million tokens; 0 where none is known."""

    usd_per_million_input: float = Field(default=0.0, ge=0, description="Price of a million tokens of prompts.")
    usd_per_million_output: float = Field(default=0.0, ge=0, description="Price of a million tokens of replies.")

    def cost_usd(self, prompt_tokens: int, output_tokens: int) -> Fraction:
        """What so many tokens cost, exactly, at the prices as they were written."""
        rates = Fraction(str(self.usd_per_million_input)), Fraction(str(self.usd_per_million_output))
        return (prompt_tokens * rates[0] + output_tokens * rates[1]) / 1_000_000


class AllowanceSpec(TokenPrices):
    """What talk may cost. A build that would pass it stops; with a larger one the same command goes on."""

    tokens: int | None = Field(default=None, ge=1, description="Of prompts and replies together; none is no bound.")
    usd: float | None = Field(default=None, gt=0, description="Money; needs the prices.")

    @property
    def prices(self) -> TokenPrices:
        """Alone."""
        return TokenPrices(**self.model_dump(include=set(TokenPrices.model_fields)))


class ChatPreset(Record):
    """A chat model with an engine that suits it."""

    model: ChatModelSpec
    engine: EngineSpec


def _llama_70b(name: str, quantization: Literal["", "fp8"] = "") -> ChatModelSpec:
    return ChatModelSpec(
        name=name,
        model="meta-llama/Llama-3.1-70B-Instruct",
        revision="1605565b47bb9346c5515c34102e054115b4f98b",
        dtype="bfloat16",
        quantization=quantization,
    )


_BF16 = _llama_70b("llama-3.1-70b-instruct")
_FP8 = _llama_70b("llama-3.1-70b-instruct-fp8", "fp8")  # made from the bfloat16 checkpoint while it loads
_SMALL = ChatModelSpec(
    name="llama-3.1-8b-instruct",
    model="meta-llama/Llama-3.1-8B-Instruct",
    revision="0e9e39f249a16976918f6564b8830bc894c89659",
    dtype="bfloat16",
)

# Memory of one GPU (H100 of 80 GB: 79 GiB as CUDA counts; an H200 has 139), of which vLLM may take 0.92, 72.7 GiB:
#   weights     70.6e9 parameters: 131.4 GiB in bfloat16; 67.7 in fp8, where embeddings stay bfloat16; over the GPUs
#   a reserve   6 GiB: activations, logits, CUDA graphs, NCCL
#   tokens      the rest. One takes 2 (key, value) x 80 layers x 8 heads x 128 x 2 bytes = 320 KiB over the GPUs;
#               the 8B has 32 layers: 128 KiB. `max_num_seqs` fills it with requests of 2,048 tokens, which is long
#               for a talk: more would be taken back and computed again.
# max_model_len 8,192: 20,000 characters of annotation are about 5,000 tokens, and a talk is at most 2,000.
# Prefix caching everywhere: all prompts of a kind begin with the same instructions.
CHAT_PRESETS: Mapping[str, ChatPreset] = {
    # 50 GiB for 1,300,000 tokens: the most talk an hour from one node, if all its GPUs are yours.
    "llama-3.1-70b-instruct": ChatPreset(model=_BF16, engine=EngineSpec(tensor_parallel=8, max_num_seqs=512)),
    # 34 GiB for 440,000 tokens: two engines a node; one that dies takes half of the work down, not all.
    "llama-3.1-70b-instruct-tp4": ChatPreset(model=_BF16, engine=EngineSpec(tensor_parallel=4, max_num_seqs=192)),
    # 50 GiB for 650,000 tokens: half the weights, so half the GPUs for nearly the same batch.
    "llama-3.1-70b-instruct-fp8": ChatPreset(model=_FP8, engine=EngineSpec(tensor_parallel=4, max_num_seqs=256)),
    # 33 GiB for 215,000 tokens: the fewest GPUs; 66 GiB each while the bfloat16 checkpoint loads.
    "llama-3.1-70b-instruct-fp8-tp2": ChatPreset(model=_FP8, engine=EngineSpec(tensor_parallel=2, max_num_seqs=96)),
    # 52 GiB for 420,000 tokens: one GPU, to try a recipe before the large model is paid for.
    "llama-3.1-8b-instruct": ChatPreset(model=_SMALL, engine=EngineSpec(max_num_seqs=192)),
}
"""By name. Sized for H100s of 80 GB; nobody has measured them on GPUs yet, the arithmetic is tested."""


def _preset(part: Literal["model", "engine"]) -> BeforeValidator:
    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in CHAT_PRESETS:
            raise ValueError(f"no chat {part} {value!r}: name one of {', '.join(CHAT_PRESETS)}, or give its fields")
        return getattr(CHAT_PRESETS[value], part)

    return BeforeValidator(read)


ChatModel = Annotated[ChatModelSpec, _preset("model")]
"""Of a recipe: the name of a preset, or the fields."""
ChatEngine = Annotated[EngineSpec, _preset("engine")]
"""Likewise."""


def preset_engine(model: ChatModelSpec | None) -> EngineSpec | None:
    """The engine of the preset that is this model; None where there is none."""
    return next((preset.engine for preset in CHAT_PRESETS.values() if preset.model == model), None)
