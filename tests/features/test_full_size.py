"""The full 1B InternVideo2 on a CPU, in a process of its own whose memory is bounded."""

import json
import subprocess
import sys

import pytest

LIMIT_BYTES = 8 * 10**9
CODE = f"""
import json, resource
resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT_BYTES}, {LIMIT_BYTES}))
import numpy as np, torch
from pipeline.features.encoder import build_encoder
from pipeline.features.engine import Engine
from schemas.encoders import EncoderSpec

torch.set_num_threads(1)
preprocessing = {{"size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
spec = EncoderSpec(architecture="internvideo2", weights="random", preprocessing=preprocessing)
encoder = build_encoder("internvideo2", spec)
parameters = sum(parameter.numel() for parameter in encoder.tower.model.parameters())
clip = np.random.default_rng(0).integers(0, 256, (1, 4, 224, 224, 3), dtype=np.uint8)
(tokens,) = Engine(encoder, torch.device("cpu"), clips_at_once=1).encode([clip])
print(json.dumps({{
    "shape": tokens.shape, "dtype": tokens.dtype.name, "finite": bool(np.isfinite(tokens).all()),
    "spread": float(tokens.astype(float).std()), "parameters": parameters,
    "architecture": encoder.provenance.architecture, "weights": encoder.provenance.weights,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}}))
"""


@pytest.mark.slow
def test_a_clip_of_four_frames_goes_through_the_full_model():
    shown = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=280, check=False)
    assert shown.returncode == 0, shown.stderr[-3000:]
    found = json.loads(shown.stdout)
    assert found["parameters"] == 1_012_586_496
    assert (found["shape"], found["dtype"]) == ([1, 4, 16, 16, 1408], "float16")
    assert found["finite"]
    assert 0.3 < found["spread"] < 30, "neither vanished nor run away in 39 blocks"
    assert (found["architecture"], found["weights"]) == ("internvideo2-1b-patch14-224", "RANDOM seed=0")
    assert found["peak_bytes"] < LIMIT_BYTES
