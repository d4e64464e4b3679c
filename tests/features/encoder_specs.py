"""The two tiny encoders that the feature tests speak about."""

from typing import Any

import numpy as np

from schemas.arrays import ClipTimes, Frames, FramesMeta
from schemas.encoders import EncoderSpec
from schemas.media import Preprocessing

SIZES = {"siglip": 64, "internvideo2": 56}
ARCHITECTURES = tuple(SIZES)
NORMALISATION = {
    "siglip": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "internvideo2": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
}


def spec(architecture: str, **changes: Any) -> EncoderSpec:
    """A tiny random encoder, with `changes`."""
    preprocessing = Preprocessing(size=SIZES[architecture], **NORMALISATION[architecture])
    fields = {"architecture": architecture, "size": "tiny", "weights": "random", "preprocessing": preprocessing}
    return EncoderSpec.model_validate(fields | changes)


def pixels(architecture: str, clips: int, frames: int, seed: int = 0) -> np.ndarray:
    """`[clips, frames, S, S, 3] uint8` noise."""
    shape = (clips, frames, SIZES[architecture], SIZES[architecture], 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def sample(key: str, clips: int, frames: int, seed: int = 0) -> Frames:
    """A decoded sample of noise for both encoders."""
    second = 1_000_000_000
    times = tuple(
        ClipTimes(
            start_ns=i * second,
            exclusive_end_ns=(i + 1) * second,
            t_ns=tuple(i * second + t for t in range(frames)),
            pts_ns=(i * second,) * frames,
        )
        for i in range(clips)
    )
    arrays = {architecture: pixels(architecture, clips, frames, seed) for architecture in ARCHITECTURES}
    return Frames(FramesMeta(key=key, clips=times), arrays)
