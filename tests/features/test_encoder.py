"""The face that both encoders show to the stage and to the trainer."""

import pytest
import torch
from encoder_specs import ARCHITECTURES, NORMALISATION, SIZES, pixels, spec

from pipeline.features.encoder import VisionEncoder, build_encoder
from pipeline.features.internvideo2 import CONFIGS, frame_indices
from pipeline.features.siglip import GEOMETRY
from schemas.encoders import DEPTHS, IMAGE_SIZES, TOKENS

pytestmark = pytest.mark.parametrize("architecture", ARCHITECTURES)


def encoder_of(architecture, **changes) -> VisionEncoder:
    return build_encoder(architecture, spec(architecture, **changes))


def encode(encoder, array) -> torch.Tensor:
    with torch.inference_mode():
        return encoder(torch.as_tensor(array))


@pytest.mark.parametrize("frames", [1, 2, 4, 6, 8])
def test_the_grid_has_a_time_step_a_frame_or_four_a_clip(architecture, frames):
    tokens = encode(encoder_of(architecture), pixels(architecture, 3, frames))
    assert tokens.shape == (3, frames if architecture == "siglip" else 4, 4, 4, 64)
    assert tokens.dtype == torch.float32
    assert tuple(tokens.shape[1:]) == spec(architecture).feature_shape(frames)


@pytest.mark.parametrize("size", ["full", "tiny"])
def test_the_recipe_knows_each_encoders_shape(architecture, size):
    shape = {"siglip": GEOMETRY[size], "internvideo2": vars(CONFIGS[size])}[architecture]
    image = shape.get("image_size", shape.get("img_size"))
    width = shape.get("hidden_size", shape.get("embed_dim"))
    assert IMAGE_SIZES[architecture, size] == image
    assert TOKENS[architecture, size] == (image // shape["patch_size"], width)
    assert DEPTHS[architecture, size] == shape.get("num_hidden_layers", shape.get("depth"))


def test_provenance_states_the_grid_of_a_films_clip(architecture):
    encoder = build_encoder("column", spec(architecture), frames_per_clip=8)
    tokens = encode(encoder, pixels(architecture, 1, 8))
    assert (*encoder.provenance.grid, encoder.provenance.width) == tuple(tokens.shape[1:])


def test_random_weights_are_labelled_and_told_apart(architecture):
    one, same, two = (encoder_of(architecture, seed=seed).provenance for seed in (1, 1, 2))
    assert one.weights == "RANDOM seed=1"
    assert one.architecture.endswith("tiny")
    assert one == same
    assert one.weights_sha256 != two.weights_sha256
    assert one.preprocessing_sha256 == spec(architecture).preprocessing.sha256()


def test_stand_in_weights_are_the_same_on_every_machine(architecture):
    digests = {
        "siglip": "6861b66485003d52f9565cedad1dc311c59e230a646fe0b00911b72dd782ee20",
        "internvideo2": "1429105062c64d6d491934ba575b4a96802ae744e107b2c4d8da1d5a518af4cc",
    }
    assert encoder_of(architecture).provenance.weights_sha256 == digests[architecture]


def test_the_tower_sees_normalised_channels_first_pixels(architecture):
    encoder, frames = encoder_of(architecture), torch.tensor(pixels(architecture, 2, 4))
    mean, std = (torch.tensor(NORMALISATION[architecture][name]) for name in ("mean", "std"))
    with torch.inference_mode():
        expected = encoder.tower(((frames.double() / 255 - mean) / std).float().permute(0, 1, 4, 2, 3))
        torch.testing.assert_close(encoder(frames), expected, rtol=0, atol=1e-5)
        swapped = encoder.tower(((frames.double() / 255 - mean) / std).float().permute(0, 1, 4, 3, 2))
        assert (swapped - expected).abs().max() > 0.1


def test_features_follow_content_and_stay_of_order_one(architecture):
    encoder = encoder_of(architecture)
    size = SIZES[architecture]
    red, blue = (torch.zeros(1, 4, size, size, 3, dtype=torch.uint8) for _ in range(2))
    red[..., 0], blue[..., 2] = 255, 255
    tokens = [encode(encoder, frames) for frames in (red, blue, pixels(architecture, 1, 4))]
    assert (tokens[0] - tokens[1]).abs().mean() > 0.1
    assert all(0.3 < float(t.std()) < 3 and float(t.abs().max()) < 30 for t in tokens)


def test_features_of_the_layer_asked_for_differ(architecture):
    frames = pixels(architecture, 1, 4)
    last, before = (encode(encoder_of(architecture, layer=layer), frames) for layer in (-1, -2))
    assert (last - before).abs().mean() > 0.05


def test_gradients_reach_the_weights_that_bear_on_the_layer(architecture):
    encoder = encoder_of(architecture, layer=-1)
    encoder(torch.tensor(pixels(architecture, 1, 4))).square().sum().backward()
    bearing = [
        (name, parameter)
        for name, parameter in encoder.tower.model.named_parameters()
        if not any(part in name for part in ("img_pos_embed", "post_layernorm", "head."))
    ]
    assert [name for name, p in bearing if p.grad is None or not p.grad.isfinite().all()] == []
    dead = [name for name, p in bearing if p.grad is not None and not p.grad.any()]
    assert [name for name in dead if not name.endswith("k_proj.bias")] == []  # softmax is blind to a key bias


def test_the_state_holds_weights_only(architecture):
    assert all(name.startswith("tower.model.") for name in encoder_of(architecture).state_dict())


def test_the_global_generator_is_neither_read_nor_moved(architecture):
    torch.manual_seed(1)
    first = encoder_of(architecture).provenance
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert encoder_of(architecture).provenance == first
    assert torch.equal(torch.get_rng_state(), before)


def test_frames_of_another_size_or_dtype_are_refused(architecture):
    encoder = encoder_of(architecture)
    good = torch.tensor(pixels(architecture, 1, 4))
    for bad in (good[..., :-1, :], good.float(), good[0], good[:, :0], good[..., :2]):
        with pytest.raises(ValueError, match=rf"expected \[clips, T, {SIZES[architecture]}.*got"):
            encoder(bad)


def test_preprocessing_of_another_size_is_refused_with_the_mend(architecture):
    wrong = spec(architecture).preprocessing.model_copy(update={"size": 384})
    with pytest.raises(ValueError, match=f"size is 384, .* set it to {SIZES[architecture]}"):
        encoder_of(architecture, preprocessing=wrong)


def test_a_layer_that_is_not_there_is_refused(architecture):
    with pytest.raises(ValueError, match=r"layer -4 .* 3 blocks"):
        encoder_of(architecture, layer=-4)


def test_time_bears_on_every_clip_of_a_video_encoder(architecture):
    encoder, frames = encoder_of(architecture), pixels(architecture, 1, 4)
    forward, backward = encode(encoder, frames), encode(encoder, frames[:, ::-1].copy()).flip(1)
    difference = float((forward - backward).abs().mean())
    assert difference == 0 if architecture == "siglip" else difference > 0.05


def test_an_image_counts_as_four_equal_frames_of_a_film(architecture):
    encoder, image = encoder_of(architecture), pixels(architecture, 2, 1)
    film = encode(encoder, image.repeat(4, axis=1))
    assert torch.equal(encode(encoder, image), film[:, :1] if architecture == "siglip" else film)


def test_longer_clips_are_strided_for_a_video_encoder(architecture):
    encoder, frames = encoder_of(architecture), pixels(architecture, 1, 8)
    strided = encode(encoder, frames[:, ::2])
    whole = encode(encoder, frames)
    torch.testing.assert_close(whole[:, ::2] if architecture == "siglip" else whole, strided, rtol=0, atol=1e-5)
    assert [frame_indices(n, 4) for n in (1, 2, 3, 4, 6, 8)] == [
        [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 2], [0, 1, 2, 3], [0, 1, 3, 4], [0, 2, 4, 6],
    ]  # fmt: skip
