"""InternVideo2 against outputs of the public reference, on its random tiny model.

The golden file holds that model's whole state (`state.*`), an input `x` and three outputs; its
metadata holds the reference's constructor arguments. All parameters were drawn at random: at
their published initialisation most mistakes below would not show.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors import safe_open

from pipeline.features import internvideo2
from pipeline.features.internvideo2 import (
    HEAD_PREFIXES,
    InternVideo2,
    InternVideo2Config,
    InternVideo2Tower,
    trunk_of,
)

GOLDEN = Path(__file__).parents[1] / "data" / "internvideo2_tiny_golden.safetensors"
TOLERANCE = 5e-6
OUTPUTS = {"video_last": (-1, False), "video_second_last": (-2, False), "image_last": (-1, True)}

with safe_open(GOLDEN, "pt") as file:
    UPSTREAM = json.loads(file.metadata()["config"])
    TENSORS = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
STATE = {name.removeprefix("state."): value for name, value in TENSORS.items() if name.startswith("state.")}
SHARED = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_frames")
CONFIG = InternVideo2Config(**{name: UPSTREAM[name] for name in SHARED})


def golden_model(**changes) -> InternVideo2:
    model = InternVideo2(InternVideo2Config(**{name: UPSTREAM[name] for name in SHARED} | changes)).eval()
    model.load_state_dict({name: value.clone() for name, value in trunk_of(STATE).items()})
    return model


def distance(model: InternVideo2, output: str) -> float:
    layer, use_image = OUTPUTS[output]
    x = TENSORS["x"][:, :, :1] if use_image else TENSORS["x"]
    with torch.inference_mode():
        got = model(x, layer=layer, use_image=use_image)
    assert got.shape == TENSORS[output].shape
    return float((got - TENSORS[output]).abs().max())


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_equal_the_public_reference(output):
    assert distance(golden_model(), output) <= TOLERANCE


def per_head_norm(self, x):
    q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
    gains = (norm.weight.unflatten(0, (self.num_heads, 1, -1)) for norm in (self.q_norm, self.k_norm))
    q, k = (F.rms_norm(part, part.shape[-1:], eps=1e-6) * gain for part, gain in zip((q, k), gains, strict=True))
    return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def scale_by_all_channels(monkeypatch, _model):
    plain = F.scaled_dot_product_attention
    monkeypatch.setattr(
        internvideo2.F,
        "scaled_dot_product_attention",
        lambda q, k, v: plain(q, k, v, scale=CONFIG.embed_dim**-0.5),
    )


def space_before_time(monkeypatch, _model):
    monkeypatch.setattr(
        internvideo2.PatchEmbed,
        "forward",
        lambda self, x: self.proj(x).permute(0, 3, 4, 2, 1).flatten(1, 3),
    )


def swap(left: str, right: str) -> Callable:
    def apply(_monkeypatch, model):
        for block in model.blocks:
            pair = getattr(block, left), getattr(block, right)
            setattr(block, left, pair[1])
            setattr(block, right, pair[0])

    return apply


def put(name: str, value: torch.Tensor) -> Callable:
    return lambda _monkeypatch, model: model.load_state_dict({name: value}, strict=False)


def keys_before_queries(_monkeypatch, model):
    for block in model.blocks:
        query, key, value = block.attn.qkv.weight.data.chunk(3)
        block.attn.qkv.weight.data = torch.cat([key, query, value])


def no_qk_norm(_monkeypatch, model):
    for block in model.blocks:
        block.attn.q_norm = block.attn.k_norm = torch.nn.Identity()


def mean_is_subtracted(monkeypatch, _model):
    monkeypatch.setattr(
        internvideo2.RMSNorm, "forward", lambda self, x: F.layer_norm(x, x.shape[-1:], self.weight, eps=1e-6)
    )


def larger_eps(monkeypatch, _model):
    monkeypatch.setattr(
        internvideo2.RMSNorm, "forward", lambda self, x: F.rms_norm(x, x.shape[-1:], self.weight, eps=1e-5)
    )


MISTAKES = {
    "LayerScales swapped": ("video_last", swap("ls1", "ls2")),
    "block norms swapped": ("video_last", swap("norm1", "norm2")),
    "keys before queries": ("video_last", keys_before_queries),
    "queries and keys normed by head": (
        "video_last",
        lambda monkeypatch, _: monkeypatch.setattr(internvideo2.Attention, "forward", per_head_norm),
    ),
    "queries and keys not normed": ("video_last", no_qk_norm),
    "softmax scaled by all channels": ("video_last", scale_by_all_channels),
    "LayerNorm for RMSNorm": ("video_last", mean_is_subtracted),
    "another eps": ("video_last", larger_eps),
    "tokens in space before time": ("video_last", space_before_time),
    "clip_pos_embed used": ("video_last", put("pos_embed", STATE["clip_pos_embed"])),
    "clip_img_pos_embed used": ("image_last", put("img_pos_embed", STATE["clip_img_pos_embed"])),
    "film positions used for an image": ("image_last", put("img_pos_embed", STATE["pos_embed"][:, :17])),
    "no class token": ("video_last", put("cls_token", torch.zeros(1, 1, 64))),
    "LayerScale left out": (
        "video_last",
        lambda monkeypatch, _: monkeypatch.setattr(internvideo2.LayerScale, "forward", lambda self, x: x),
    ),
    "one block too few": ("video_last", lambda _, model: model.blocks.__delitem__(-1)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_seen_by_the_comparison(mistake, monkeypatch):
    output, plant = MISTAKES[mistake]
    model = golden_model()
    plant(monkeypatch, model)
    assert distance(model, output) > TOLERANCE


def test_the_tanh_switch_gives_other_numbers():
    assert distance(golden_model(gelu="tanh"), "video_last") > 10 * TOLERANCE


def test_layer_minus_two_is_the_input_of_the_last_block():
    model = golden_model()
    with torch.inference_mode():
        torch.testing.assert_close(
            model.blocks[-1](model(TENSORS["x"], layer=-2)), model(TENSORS["x"]), rtol=0, atol=0
        )


def test_the_tower_drops_the_class_token_and_lays_patches_out_by_time_height_width():
    tower = InternVideo2Tower(golden_model(), "golden", layer=-2)
    with torch.inference_mode():
        tokens = tower(TENSORS["x"].transpose(1, 2))
    expected = TENSORS["video_second_last"][:, 1:].reshape(2, 4, 4, 4, 64)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=TOLERANCE)


def head_shapes(channels, tokens, frames, clip, teacher, final, decoders) -> dict[str, tuple[int, ...]]:
    """Published parameters that the trunk leaves out."""
    shapes = {"clip_pos_embed": (1, 1 + frames * tokens, channels), "clip_img_pos_embed": (1, 1 + tokens, channels)}
    for part in "qkv":
        shapes[f"clip_projector.norm1_{part}.weight"] = shapes[f"clip_projector.norm1_{part}.bias"] = (channels,)
        shapes[f"clip_projector.cross_attn.{part}.weight"] = (channels, channels)
        shapes[f"clip_projector.cross_attn.{part}_bias"] = (channels,)
    shapes |= {
        "clip_projector.cross_attn.proj.weight": (clip, channels),
        "clip_projector.cross_attn.proj.bias": (clip,),
    }
    dims = {f"clip_decoder.{i}": (channels, teacher) for i in range(decoders)} | {
        "final_clip_decoder": (clip, final)
    }
    for name, (dim_in, dim_out) in dims.items():
        shapes |= {f"{name}.head.weight": (dim_out, dim_in), f"{name}.head.bias": (dim_out,)}
        shapes |= {f"{name}.norm.weight": (dim_out,), f"{name}.norm.bias": (dim_out,)}
    return shapes


def trunk_shapes(config: InternVideo2Config) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in InternVideo2(config).state_dict().items()}


def test_trunk_and_heads_have_the_published_names_and_shapes():
    heads = head_shapes(64, 16, 4, clip=32, teacher=48, final=24, decoders=2)
    assert trunk_shapes(CONFIG) | heads == {name: tuple(value.shape) for name, value in STATE.items()}
    assert all(name.startswith(HEAD_PREFIXES) for name in heads)


def test_the_full_model_has_as_many_parameters_as_the_published_one():
    def count(shapes):
        return sum(torch.Size(shape).numel() for shape in shapes.values())

    trunk = trunk_shapes(InternVideo2Config())
    heads = head_shapes(1408, 256, 4, clip=768, teacher=3200, final=768, decoders=6)
    assert count(trunk) == 1_012_586_496
    assert count(trunk | heads) == 1_049_117_056
    assert len(trunk | heads) == 569
    assert count({k: v for k, v in trunk.items() if not k.startswith("blocks.39.")}) == 987_337_728


@pytest.mark.parametrize(
    ("shape", "use_image"),
    [((1, 3, 1, 56, 56), False), ((1, 3, 4, 56, 56), True), ((1, 3, 2, 56, 56), False), ((1, 3, 4, 70, 70), False)],
)
def test_an_input_of_another_shape_is_refused_with_both_shapes(shape, use_image):
    with pytest.raises(ValueError, match=r"expected \[clips, 3, .*got \[1, 3"):
        golden_model()(torch.zeros(shape), use_image=use_image)


@pytest.mark.parametrize("layer", [0, 1, -5])
def test_a_layer_that_is_not_there_is_refused(layer):
    with pytest.raises(ValueError, match="expected -4 to -1"):
        golden_model()(TENSORS["x"], layer=layer)


def test_a_config_that_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="tile"):
        InternVideo2Config(img_size=60)
    with pytest.raises(ValueError, match="tile"):
        InternVideo2Config(num_heads=17)
