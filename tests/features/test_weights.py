"""Loading of InternVideo2 checkpoints, and digests of weights."""

import numpy as np
import pytest
import torch
from encoder_specs import spec
from safetensors.torch import save_file

from pipeline.features.internvideo2 import TINY, InternVideo2, build_internvideo2
from pipeline.features.weights import fill_at_random, state_sha256

HEADS = {
    "clip_projector.norm1_q.weight": torch.ones(64),
    "clip_decoder.0.head.bias": torch.ones(3),
    "final_clip_decoder.head.bias": torch.ones(3),
    "clip_pos_embed": torch.ones(1, 65, 64),
    "clip_img_pos_embed": torch.ones(1, 17, 64),
}
SIBLINGS = {"text_encoder.a": torch.ones(1), "vision_proj.weight": torch.ones(1), "temp": torch.ones(())}


@pytest.fixture
def model() -> InternVideo2:
    model = InternVideo2(TINY)
    fill_at_random(model, seed=7)
    return model


def load(path) -> InternVideo2:
    return build_internvideo2(spec("internvideo2", weights=str(path))).model


def stage2(model) -> dict[str, torch.Tensor]:
    own = model.state_dict() | HEADS
    return {f"vision_encoder.{name}": value for name, value in own.items()} | SIBLINGS


@pytest.mark.parametrize("wrapper", ["model", "module", None])
@pytest.mark.parametrize("layout", [InternVideo2.state_dict, stage2], ids=["bare", "stage2"])
def test_a_torch_checkpoint_loads_in_every_published_wrapping(tmp_path, model, wrapper, layout):
    state = dict(layout(model))
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "weights.pt")
    assert state_sha256(load(tmp_path / "weights.pt")) == state_sha256(model)


@pytest.mark.parametrize("layout", [InternVideo2.state_dict, stage2], ids=["bare", "stage2"])
def test_a_safetensors_file_loads(tmp_path, model, layout):
    save_file(dict(layout(model)), tmp_path / "weights.safetensors")
    assert state_sha256(load(tmp_path / "weights.safetensors")) == state_sha256(model)


def test_half_precision_weights_are_held_in_float32(tmp_path, model):
    torch.save(model.bfloat16().state_dict(), tmp_path / "weights.pt")
    loaded = load(tmp_path / "weights.pt")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.pos_embed, model.pos_embed.float())


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_broken_file_is_refused_by_name(tmp_path, suffix, content):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"broken{suffix}"):
        load(path)


def test_other_paths_are_refused_with_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load(tmp_path)
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ValueError, match=r"expected \.safetensors, \.pt or \.pth"):
        load(tmp_path / "weights.bin")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="expected a state dict"):
        load(tmp_path / "list.pt")


def test_the_digest_sees_names_shapes_dtypes_and_values():
    def digest(value, name="a"):
        module = torch.nn.Module()
        module.register_buffer(name, value)
        return state_sha256(module)

    base = torch.zeros(2, 3)
    others = [
        digest(base, "b"),
        digest(base.reshape(3, 2)),
        digest(base.view(torch.int32)),
        digest(base + torch.tensor([0, 0, 1.0])),
        digest(-base),
    ]
    assert len({digest(base), *others}) == 6
    assert digest(base) == digest(base.clone())
    assert digest(torch.ones(4, 2).T) == digest(torch.ones(2, 4))  # memory layout is no content


def test_random_weights_follow_from_the_seed_and_the_name_alone(model):
    same, other, shallow = InternVideo2(TINY), InternVideo2(TINY), InternVideo2(TINY)
    del shallow.blocks[0]
    fill_at_random(same, 7)
    fill_at_random(other, 8)
    fill_at_random(shallow, 7)
    assert state_sha256(same) == state_sha256(model) != state_sha256(other)
    assert torch.equal(shallow.cls_token, model.cls_token)
    assert not torch.equal(model.blocks[0].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)


def test_random_weights_leave_the_global_generators_alone(model):
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    fill_at_random(model, 1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
