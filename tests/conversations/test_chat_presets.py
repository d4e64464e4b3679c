"""Presets of chat models fit the GPUs that they are meant for."""

from dataclasses import dataclass

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.llm import CHAT_PRESETS, ChatModel, ChatPreset

GIB = 2**30
H100 = 79.0
RESERVE = 6.0
TYPICAL_REQUEST = 2048


@dataclass(frozen=True)
class Architecture:
    """As `config.json` of the checkpoint says it."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int = 8
    head: int = 128
    vocabulary: int = 128_256

    @property
    def embeddings(self) -> int:
        return 2 * self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        attention = self.hidden * self.head * 2 * (self.heads + self.kv_heads)
        return self.embeddings + self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def token_bytes(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head * 2


MODELS = {
    "meta-llama/Llama-3.1-70B-Instruct": Architecture(80, 8192, 28672, 64),
    "meta-llama/Llama-3.1-8B-Instruct": Architecture(32, 4096, 14336, 32),
}


def weights(preset: ChatPreset) -> float:
    """GiB of one GPU, once loaded."""
    model = MODELS[preset.model.model]
    linear = model.parameters - model.embeddings
    size = linear * (1 if preset.model.quantization == "fp8" else 2) + model.embeddings * 2
    return size / preset.engine.tensor_parallel / GIB


def tokens(preset: ChatPreset, gpu: float = H100) -> int:
    """That fit beside weights and reserve; each GPU holds its share of every token."""
    room = gpu * preset.engine.gpu_memory_utilization - weights(preset) - RESERVE
    return int(room * GIB * preset.engine.tensor_parallel / MODELS[preset.model.model].token_bytes)


@pytest.mark.parametrize("name", CHAT_PRESETS)
def test_weights_and_a_full_batch_fit_the_gpus_of_a_preset(name):
    preset = CHAT_PRESETS[name]
    assert tokens(preset) >= preset.engine.max_num_seqs * TYPICAL_REQUEST
    assert tokens(preset) >= 4 * preset.model.max_model_len
    assert tokens(preset) <= 2 * preset.engine.max_num_seqs * TYPICAL_REQUEST  # or GPUs stand idle


@pytest.mark.parametrize("name", CHAT_PRESETS)
def test_the_checkpoint_fits_while_it_loads_in_bfloat16(name):
    preset = CHAT_PRESETS[name]
    whole = MODELS[preset.model.model].parameters * 2 / GIB
    assert whole / preset.engine.tensor_parallel < H100 * preset.engine.gpu_memory_utilization


@pytest.mark.parametrize("name", CHAT_PRESETS)
def test_heads_of_keys_divide_over_the_gpus(name):
    preset = CHAT_PRESETS[name]
    assert MODELS[preset.model.model].kv_heads % preset.engine.tensor_parallel == 0


def test_the_arithmetic_is_that_of_the_published_models():
    large, small = MODELS.values()
    assert large.parameters == pytest.approx(70.55e9, rel=0.001)
    assert small.parameters == pytest.approx(8.03e9, rel=0.001)
    assert (large.token_bytes, small.token_bytes) == (320 * 1024, 128 * 1024)


def test_every_preset_pins_its_checkpoint():
    assert all(len(preset.model.revision) == 40 for preset in CHAT_PRESETS.values())


def test_a_recipe_names_a_model_and_a_wrong_name_tells_the_right_ones():
    model = TypeAdapter(ChatModel)
    assert model.validate_python("llama-3.1-8b-instruct") == CHAT_PRESETS["llama-3.1-8b-instruct"].model
    with pytest.raises(ValidationError, match=r"llama-3\.1-70b-instruct-fp8"):
        model.validate_python("llama")
