"""A wrong checkpoint is refused, and the error names the first key to differ, in the order of the model."""

import json
from pathlib import Path

import pytest
import torch
from encoder_specs import ARCHITECTURES, spec
from safetensors.torch import save_file

from pipeline.features.encoder import build_encoder
from pipeline.features.siglip import GEOMETRY
from schemas.base import InputError

State = dict[str, torch.Tensor]
PAIRS = {
    "siglip": ("embeddings.patch_embedding.weight", "embeddings.patch_embedding.bias"),
    "internvideo2": ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
}
"""Two keys of each model: the first in its own order is the last in the alphabet's."""
OTHER = {"siglip": "internvideo2", "internvideo2": "siglip"}

both = pytest.mark.parametrize("architecture", ARCHITECTURES)


def state_of(architecture: str) -> State:
    """Under the names that a checkpoint has."""
    state = build_encoder(architecture, spec(architecture, seed=5)).tower.model.state_dict()
    return {key.removeprefix("vision_model."): value.clone() for key, value in state.items()}


def written(folder: Path, architecture: str, state: State) -> Path:
    """The state as each architecture takes it: a folder with its config, or a file."""
    path = folder / "model.safetensors"
    save_file(state, path, metadata={"format": "pt"})
    if architecture == "internvideo2":
        return path
    build_encoder("siglip", spec("siglip")).tower.model.config.save_pretrained(folder)
    return folder


def refusal(architecture: str, weights: Path) -> str:
    with pytest.raises(InputError) as told:
        build_encoder(architecture, spec(architecture, weights=str(weights)))
    assert str(weights) in str(told.value)
    return str(told.value)


@both
def test_the_unchanged_state_is_taken(tmp_path, architecture):
    state = state_of(architecture)
    loaded = build_encoder(architecture, spec(architecture, weights=str(written(tmp_path, architecture, state))))
    assert (
        loaded.provenance.weights_sha256
        == build_encoder(architecture, spec(architecture, seed=5)).provenance.weights_sha256
    )


@both
def test_missing_keys(tmp_path, architecture):
    first, second = PAIRS[architecture]
    state = state_of(architecture)
    del state[first], state[second]
    told = refusal(architecture, written(tmp_path, architecture, state))
    assert f"{first} is the first key to differ; missing {first}, {second}" in told.replace("vision_model.", "")


@both
def test_another_shape(tmp_path, architecture):
    first, second = PAIRS[architecture]
    state = state_of(architecture)
    shape = list(state[first].shape)
    state |= {first: torch.ones(2, 3), second: torch.ones(1)}
    told = refusal(architecture, written(tmp_path, architecture, state)).replace("vision_model.", "")
    assert f"{first} is the first key to differ; shaped for another model" in told
    assert f"{first} [2, 3] instead of {shape}, {second} [1] instead of" in told


@both
def test_the_first_key_is_the_first_whatever_is_wrong_with_it(tmp_path, architecture):
    first, _ = PAIRS[architecture]
    for wrong in (0, 1):
        state = state_of(architecture) | {"a.stranger": torch.ones(1), PAIRS[architecture][wrong]: torch.ones(1)}
        del state[PAIRS[architecture][1 - wrong]]
        told = refusal(architecture, written(tmp_path, architecture, state)).replace("vision_model.", "")
        assert f"{first} is the first key to differ; missing" in told
        assert told.endswith("unexpected a.stranger")


@both
def test_a_key_too_many(tmp_path, architecture):
    state = state_of(architecture) | {"a.stranger": torch.ones(1)}
    told = refusal(architecture, written(tmp_path, architecture, state))
    assert told.endswith("do not fit: a.stranger is the first key to differ; unexpected a.stranger")


@both
def test_another_model(tmp_path, architecture):
    told = refusal(architecture, written(tmp_path, architecture, state_of(OTHER[architecture])))
    first = next(iter(state_of(architecture)))
    assert f"{first} is the first key to differ; missing {first}, " in told.replace("vision_model.", "")
    assert " more; unexpected " in told


def test_another_model_by_its_config(tmp_path):
    folder = written(tmp_path, "siglip", state_of("siglip"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | GEOMETRY["full"]))
    assert "hidden_size is the first to differ in config.json" in refusal("siglip", folder)


class Bomb:
    def __init__(self, fuse):
        self.fuse = fuse

    def __reduce__(self):
        return (type(self.fuse).touch, (self.fuse,))


@pytest.fixture
def bomb(tmp_path) -> tuple[Bomb, Path]:
    return Bomb(tmp_path / "it-went-off"), tmp_path / "it-went-off"


def test_a_pickle_with_code_is_refused_by_the_codes_name_and_never_run(tmp_path, bomb):
    path = tmp_path / "weights.pt"
    torch.save({"model": state_of("internvideo2"), "args": bomb[0]}, path)
    told = refusal("internvideo2", path)
    assert "names 'getattr', which is code or an object: only tensors are unpickled" in told
    assert "weights_only" not in told, "PyTorch's own words tell how to run it all the same"
    assert not bomb[1].exists()
    torch.load(path, weights_only=False)
    assert bomb[1].exists(), "so the bomb was live"


def test_a_pickle_with_code_beside_a_config_is_not_even_opened(tmp_path, bomb):
    folder = written(tmp_path, "siglip", state_of("siglip"))
    (folder / "model.safetensors").unlink()
    torch.save({"a": bomb[0]}, folder / "pytorch_model.bin")
    assert "hold no readable safetensors file" in refusal("siglip", folder)
    assert not bomb[1].exists()
