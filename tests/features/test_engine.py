"""The engine: clips of many samples in batches of one shape."""

import numpy as np
import pytest
import torch
from encoder_specs import ARCHITECTURES, pixels, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.encoder import build_encoder
from pipeline.features.engine import Engine

CPU = torch.device("cpu")


def engine(architecture: str, **changes) -> Engine:
    return Engine(build_encoder(architecture, spec(architecture, **changes)), CPU, clips_at_once=8)


@pytest.fixture(scope="module")
def engines():
    return {architecture: engine(architecture) for architecture in ARCHITECTURES}


class Watched:
    """An engine that takes `at_once` clips together, and whose encoder holds no batch of more than `room`."""

    def __init__(self, architecture: str, at_once: int, room: int = 1000) -> None:
        self.engine, self.seen = engine(architecture), []
        self.engine.clips_at_once = at_once
        self.engine._encoder.register_forward_pre_hook(lambda _, args: self._watch(args[0], room))

    def _watch(self, batch, room):
        self.seen.append(tuple(batch.shape[:2]))
        if len(batch) > room:
            raise torch.OutOfMemoryError


def films(architecture, *shapes):
    return [pixels(architecture, clips, frames, seed=i) for i, (clips, frames) in enumerate(shapes)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=5)
@given(shapes=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([1, 2, 4])), min_size=1, max_size=5))
def test_on_a_cpu_a_clip_gives_the_same_bits_whatever_runs_beside_it(engines, architecture, shapes):
    assert engines[architecture].clips_at_once == 1, "matrices as small as these may round alike in any batch"
    samples = films(architecture, *shapes)
    together = engines[architecture].encode(samples)
    for sample, tokens in zip(samples, together, strict=True):
        assert tokens.dtype == np.float16
        assert len(tokens) == len(sample)
        for clip, alone in zip(sample, tokens, strict=True):
            (single,) = engines[architecture].encode([clip[None]])
            np.testing.assert_array_equal(single[0], alone)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 32])
def test_batches_cut_across_samples_bring_each_clip_home(engines, architecture, at_once):
    samples = films(architecture, (3, 4), (0, 4), (2, 1), (5, 4), (1, 1))
    watched = Watched(architecture, at_once)
    for got, expected in zip(watched.engine.encode(samples), engines[architecture].encode(samples), strict=True):
        np.testing.assert_allclose(got.astype(float), expected.astype(float), atol=2e-2)
        assert got.shape == expected.shape
    assert {clips for clips, _ in watched.seen} == {at_once}, "one shape a frame count"
    assert [frames for _, frames in watched.seen] == [1] * -(-3 // at_once) + [4] * -(-8 // at_once)


def test_a_device_without_memory_for_a_batch_gets_half_of_it_and_nothing_is_lost(engines):
    samples = films("siglip", (3, 4), (9, 4))
    watched = Watched("siglip", at_once=16, room=4)
    for got, expected in zip(watched.engine.encode(samples), engines["siglip"].encode(samples), strict=True):
        np.testing.assert_allclose(got.astype(float), expected.astype(float), atol=2e-2)
    assert [clips for clips, _ in watched.seen] == [16, 8, 4, 4, 4]
    assert watched.engine.clips_at_once == 4
    watched.seen.clear()
    watched.engine.encode(samples)
    assert {clips for clips, _ in watched.seen} == {4}, "halved for good"


def test_a_device_without_memory_for_one_clip_is_told():
    with pytest.raises(torch.OutOfMemoryError):
        Watched("siglip", at_once=4, room=0).engine.encode(films("siglip", (1, 4)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_is_near_float32_and_named_in_the_provenance(engines, architecture):
    low = engine(architecture, precision="bfloat16")
    assert low.provenance.precision == "bfloat16"
    assert low.provenance.weights_sha256 == engines[architecture].provenance.weights_sha256
    samples = films(architecture, (2, 4))
    (got,), (exact,) = (e.encode(samples) for e in (low, engines[architecture]))
    error = np.linalg.norm(got.astype(float) - exact) / np.linalg.norm(exact.astype(float))
    assert 1e-4 < error < 3e-2
    weights = low._encoder.tower.named_parameters()
    assert {str(p.dtype) for name, p in weights if not name.endswith("gamma")} == {"torch.bfloat16"}
    assert low._encoder.mean.dtype == torch.float32


def test_pixels_that_do_not_fit_are_refused_before_anything_runs():
    watched = Watched("siglip", at_once=4)
    for wrong in (pixels("internvideo2", 1, 4), pixels("siglip", 1, 4).astype(np.float32), pixels("siglip", 1, 0)):
        with pytest.raises(ValueError, match=r"expected \[clips, T, 64, 64, 3\] uint8, got"):
            watched.engine.encode([pixels("siglip", 1, 4), wrong])
    assert not watched.seen
