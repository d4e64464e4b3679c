"""SigLIP against transformers' own forward, and its loading from folders."""

import json
import socket

import pytest
import torch
from encoder_specs import spec
from safetensors.torch import load_file, save_file
from transformers import SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel

from pipeline.features.siglip import GEOMETRY, build_siglip
from pipeline.features.weights import state_sha256


@pytest.fixture
def folder(tmp_path):
    build_siglip(spec("siglip", seed=5)).model.save_pretrained(tmp_path)
    return tmp_path


def load(folder, **changes):
    return build_siglip(spec("siglip", weights=str(folder), **changes))


@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_tokens_equal_the_hidden_state_of_transformers(layer):
    tower = build_siglip(spec("siglip", layer=layer))
    x = torch.randn(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        hidden = tower.model(pixel_values=x.flatten(0, 1), output_hidden_states=True).hidden_states
        assert torch.equal(tower(x), hidden[layer].reshape(2, 3, 4, 4, 64))
    assert len(hidden) == 4
    assert not torch.equal(hidden[-1], hidden[-2])


def test_the_full_model_has_as_many_parameters_as_so400m():
    with torch.device("meta"):
        model = SiglipVisionModel(SiglipVisionConfig(**GEOMETRY["full"]))
    # 412,987,248 without and 15,238,352 in the pooling head; the published file is 857 MB in bf16
    assert sum(parameter.numel() for parameter in model.parameters()) == 428_225_600
    assert getattr(model, "vision_model", model).embeddings.num_positions == 27 * 27
    assert model.config.hidden_act == "gelu_pytorch_tanh"
    assert model.config.layer_norm_eps == 1e-6


def test_a_saved_tower_loads_to_the_same_weights(folder):
    assert state_sha256(load(folder).model) == state_sha256(build_siglip(spec("siglip", seed=5)).model)


def test_the_vision_tower_of_a_whole_siglip_loads(tmp_path):
    text = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = SiglipConfig(text_config=text | {"num_attention_heads": 2}, vision_config=GEOMETRY["tiny"])
    whole = SiglipModel(config)
    whole.save_pretrained(tmp_path)
    names = {name.removeprefix("vision_model.") for name in load(tmp_path).model.state_dict()}
    assert {name.removeprefix("vision_model.") for name in whole.vision_model.state_dict()} == names
    assert state_sha256(load(tmp_path).model) == state_sha256(whole.vision_model)
    assert state_sha256(load(tmp_path / "model.safetensors").model) == state_sha256(whole.vision_model)


@pytest.mark.parametrize("nest", ["", "vision_model."])
def test_one_file_of_weights_loads_however_its_names_are_nested(folder, nest):
    state = load_file(folder / "model.safetensors")
    named = {nest + name.removeprefix("vision_model."): value for name, value in state.items()}
    save_file(named, folder / "alone.safetensors")
    torch.save(named, folder / "alone.pt")
    wanted = state_sha256(load(folder).model)
    assert state_sha256(load(folder / "alone.safetensors").model) == wanted
    assert state_sha256(load(folder / "alone.pt").model) == wanted
    del named[f"{nest}encoder.layers.1.mlp.fc1.bias"]
    save_file(named, folder / "alone.safetensors")
    with pytest.raises(ValueError, match=r"encoder\.layers\.1\.mlp\.fc1\.bias is the first key to differ; missing"):
        load(folder / "alone.safetensors")


def test_a_folder_of_another_size_is_refused_with_both(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 8}))
    with pytest.raises(ValueError, match=r"'num_attention_heads': 8.*'num_attention_heads': 4"):
        load(folder)


def test_a_folder_with_pickled_weights_only_is_refused(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no readable safetensors"):
        load(folder)
    (folder / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(ValueError, match="no readable safetensors"):
        load(folder)


def test_a_hub_name_is_refused_without_a_look_at_the_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ValueError, match="give a local folder"):
        load("google/siglip-so400m-patch14-384")


def test_building_leaves_the_global_generator_alone(folder):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    build_siglip(spec("siglip"))
    load(folder)
    assert torch.equal(torch.get_rng_state(), before)
