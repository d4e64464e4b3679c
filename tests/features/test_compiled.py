"""Compiled encoders: near the module they were compiled from, and bound by the same laws."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_specs import ARCHITECTURES, pixels, spec
from torch._dynamo.utils import counters

from pipeline.features.encoder import build_encoder
from pipeline.features.engine import Engine

MOST = {"float32": 1e-5, "bfloat16": 2e-2}
"""Norm of the difference over the norm of the tokens: fused kernels round less often than a kernel an operation."""


def engine(architecture: str, **changes) -> Engine:
    encoder = build_encoder(architecture, spec(architecture, compiled=True, **changes))
    return Engine(encoder, torch.device("cpu"), clips_at_once=8)


pytestmark = pytest.mark.slow  # compilers take half a minute a graph


@pytest.fixture(scope="module")
def engines():
    return {architecture: engine(architecture) for architecture in ARCHITECTURES}


def graphs() -> int:
    """Compiled in this process so far."""
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("precision", MOST)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_compiled_encoder_is_near_the_plain_one_and_named_in_the_provenance(architecture, precision):
    one = engine(architecture, precision=precision)
    with torch.inference_mode():
        for frames in (1, 4):
            batch = torch.tensor(pixels(architecture, 1, frames))
            got, plain = one._run(batch), one._encoder(batch)
            assert 0 < (got - plain).norm() / plain.norm() <= MOST[precision]
    assert one.provenance.compiled
    assert one.provenance == build_encoder(
        architecture, spec(architecture, precision=precision)
    ).provenance.model_copy(update={"compiled": True})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_compiled_clip_gives_the_same_bits_whatever_runs_beside_it(engines, architecture):
    samples = [pixels(architecture, *shape, seed=i) for i, shape in enumerate([(3, 4), (0, 4), (2, 1), (4, 4)])]
    for sample, tokens in zip(samples, engines[architecture].encode(samples), strict=True):
        for clip, together in zip(sample, tokens, strict=True):
            (alone,) = engines[architecture].encode([clip[None]])
            np.testing.assert_array_equal(alone[0], together)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_encoder_is_compiled_once_a_frame_count_into_one_graph(architecture):
    one, before = engine(architecture), graphs()
    for seed in range(3):
        one.encode([pixels(architecture, 2, 4, seed=seed), pixels(architecture, 3, 1, seed=seed)])
    assert graphs() - before == 2
    assert not counters["graph_break"]


def test_every_shape_that_halving_leads_to_is_compiled_too():
    one, before = engine("internvideo2"), graphs()
    with torch._dynamo.config.patch(recompile_limit=1):  # pytest's own patch would leave the setting hidden
        for one.clips_at_once in (3, 2, 1):
            one.encode([pixels("internvideo2", 2, 4)])
    assert graphs() - before == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_who_trains_the_encoder_has_the_plain_module(architecture):
    encoder, before = build_encoder(architecture, spec(architecture, compiled=True)), graphs()
    Engine(encoder, torch.device("cpu"), clips_at_once=1)
    encoder(torch.tensor(pixels(architecture, 1, 4))).square().sum().backward()
    assert graphs() == before
    assert all(name.startswith("tower.model.") for name in encoder.state_dict())


def test_a_machine_without_a_compiler_is_told_what_to_do():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from encoder_specs import sample, spec\n"
        "from pipeline.features.stage import Encode\n"
        "from schemas.base import InputError\n"
        "stage = Encode({'siglip': spec('siglip', compiled=True)})\n"
        "stage.setup()\n"
        "try:\n"
        "    stage.process([sample('video', 1, 4)])\n"
        "except InputError as error:\n"
        "    print(error)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    environment = os.environ | {"CXX": "/nowhere/g++"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (told,) = shown.stdout.splitlines()
    assert "No working C++ compiler found" in told
    assert told.endswith("install a C++ compiler (g++, and on a GPU Triton), or set `compiled: false`")
