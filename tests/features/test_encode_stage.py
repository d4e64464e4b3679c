"""The features stage: conservation, independence, and what it refuses."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_specs import ARCHITECTURES, pixels, sample, spec

from pipeline.features.stage import Encode
from pipeline.runtime.contract import run_chain
from schemas.arrays import Features, Frames
from schemas.rejection import Reason, Rejection

SPECS = {architecture: spec(architecture) for architecture in ARCHITECTURES}
TEXT, IMAGE, IMAGES, VIDEO = sample("text", 0, 4), sample("image", 1, 1), sample("set", 3, 1), sample("video", 3, 4)
ALL = [TEXT, IMAGE, IMAGES, VIDEO]


@pytest.fixture(scope="module")
def stage():
    encode = Encode(SPECS)
    encode.setup()
    yield encode
    encode.close()


def raw(features: Features) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in features.arrays.items()}


def test_every_key_leaves_once_in_order_with_its_times(stage):
    outcomes = run_chain([stage], ALL)
    assert [outcome.key for outcome in outcomes] == ["text", "image", "set", "video"]
    for frames, features in zip(ALL, outcomes, strict=True):
        assert isinstance(features, Features)
        assert features.meta.clips == frames.meta.clips
        assert [encoder.name for encoder in features.meta.encoders] == list(SPECS)


@pytest.mark.parametrize(
    ("frames", "siglip", "internvideo2"),
    [(TEXT, (0, 4), (0, 4)), (IMAGE, (1, 1), (1, 4)), (IMAGES, (3, 1), (3, 4)), (VIDEO, (3, 4), (3, 4))],
    ids=lambda value: getattr(value, "key", None),
)
def test_arrays_have_the_encoders_own_grid(stage, frames, siglip, internvideo2):
    (features,) = stage.process([frames])
    assert features.arrays["siglip"].shape == (*siglip, 4, 4, 64)
    assert features.arrays["internvideo2"].shape == (*internvideo2, 4, 4, 64)
    assert {array.dtype for array in features.arrays.values()} == {np.dtype(np.float16)}


def test_a_text_sample_runs_nothing(stage, monkeypatch):
    def refuse(*_):
        raise AssertionError("an encoder ran")

    monkeypatch.setattr("pipeline.features.encoder.VisionEncoder.forward", refuse)
    assert isinstance(stage.process([TEXT])[0], Features)
    with pytest.raises(AssertionError, match="an encoder ran"):
        stage.process([IMAGE])


def test_features_do_not_depend_on_the_neighbours_or_the_worker(stage):
    others = [sample(f"other-{i}", clips, 4, seed=i + 1) for i, clips in enumerate((1, 7, 2))]
    alone = raw(stage.process([VIDEO])[0])
    assert raw(stage.process([*others, VIDEO, IMAGE])[1 + 2]) == alone
    another = Encode(SPECS)
    torch.manual_seed(99)
    another.setup()
    try:
        assert raw(another.process([VIDEO])[0]) == alone
    finally:
        another.close()


def test_features_are_the_encoders_output_on_the_pixels(stage):
    from pipeline.features.encoder import build_encoder

    features = stage.process([VIDEO])[0]
    for name, spec_ in SPECS.items():
        with torch.inference_mode():
            expected = build_encoder(name, spec_)(torch.tensor(VIDEO.pixels[name])).half().numpy()
        np.testing.assert_allclose(features.arrays[name].astype(float), expected.astype(float), atol=2e-2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5], ids=["nan", "inf", "beyond float16"])
def test_features_that_float16_cannot_hold_are_a_rejection_that_names_the_encoder(value):
    encode = Encode(SPECS)
    encode.setup()
    try:
        with torch.no_grad():
            model = encode._engines["internvideo2"]._encoder.tower.model
            model.cls_token[:] = 0
            model.pos_embed[0, 5, 3] = value
        text, video = run_chain([encode], [TEXT, VIDEO])
    finally:
        encode.close()
    assert isinstance(text, Features)
    assert isinstance(video, Rejection)
    assert (video.key, video.stage, video.reason) == ("video", "features", Reason.NON_FINITE_FEATURES)
    assert "'internvideo2'" in video.detail
    assert "clips [0, 1, 2] of 3" in video.detail


@pytest.mark.parametrize("keep", [True, False])
def test_pixels_are_passed_on_only_when_asked_for(stage, keep):
    video = Frames(VIDEO.meta.model_copy(update={"kept": keep}), VIDEO.pixels)
    features = stage.process([video])[0]
    for name, array in VIDEO.pixels.items():
        np.testing.assert_array_equal(features.frames[name], array if keep else array[:0])
        assert keep or features.frames[name].base.nbytes == 0  # no view that holds the pixels in memory


def test_missing_or_misshapen_pixels_are_a_bug_not_data(stage):
    with pytest.raises(ValueError, match=r"video: no pixels for encoder \['internvideo2'\]"):
        stage.process([Frames(VIDEO.meta, {"siglip": VIDEO.pixels["siglip"]})])
    swapped = {"siglip": pixels("internvideo2", 3, 4), "internvideo2": pixels("siglip", 3, 4)}
    with pytest.raises(ValueError, match="expected"):
        stage.process([Frames(VIDEO.meta, swapped)])


def test_the_stage_travels_before_setup_and_gives_the_threads_back():
    before = torch.get_num_threads()
    encode = pickle.loads(pickle.dumps(Encode(SPECS)))  # noqa: S301
    torch.set_num_threads(2)
    try:
        encode.setup()
        assert torch.get_num_threads() == 1
        assert isinstance(encode.process([IMAGE])[0], Features)
        encode.close()
        assert torch.get_num_threads() == 2
        encode.close()
    finally:
        torch.set_num_threads(before)


def test_importing_the_stage_loads_nothing_heavy():
    code = (
        "import sys, pipeline.features.stage; "
        "print([name for name in ('torch', 'transformers', 'ray', 'prefect') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_setup_needs_neither_ray_nor_prefect():
    code = (
        "import sys; sys.modules['ray'] = sys.modules['prefect'] = None\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from encoder_specs import sample, spec\n"
        "from pipeline.features.stage import Encode\n"
        "stage = Encode({'internvideo2': spec('internvideo2')})\n"
        "stage.setup()\n"
        "print(type(stage.process([sample('video', 1, 4)])[0]).__name__)"
    )
    here = str(Path(__file__).parent)
    shown = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "Features"
