"""`VisionEncoder`: one face for both architectures, from uint8 frames to a grid of tokens."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.features.internvideo2 import build_internvideo2
from pipeline.features.origins import Stamp, weights_path
from pipeline.features.siglip import build_siglip
from pipeline.features.tower import Tower
from pipeline.features.weights import state_sha256, tuned_from
from schemas.arrays import EncoderProvenance
from schemas.base import InputError
from schemas.encoders import EncoderSpec
from schemas.media import Preprocessing

APOLLO_FRAMES = 4
"""Frames of a clip: 2 s at 2 fps (Apollo, released configuration)."""


class VisionEncoder(nn.Module):
    """A tower with its normalisation and its provenance."""

    mean: Tensor
    std: Tensor

    def __init__(self, tower: Tower, preprocessing: Preprocessing, provenance: EncoderProvenance) -> None:
        super().__init__()
        self.tower = tower
        self.provenance = provenance
        """Of the weights as they were built; training them makes it out of date."""
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32)
            self.register_buffer(name, values.reshape(3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Encodes clips; differentiable with respect to the weights.

        Args:
            frames: `[clips, T, S, S, 3] uint8` RGB, padded and resized for this encoder, on any device.

        Returns:
            `[clips, t, h, w, D] float32` on the weights' device; t is T for SigLIP, 4 for InternVideo2.

        Raises:
            ValueError: the frames have another shape or dtype.
        """
        self.check(frames.shape, str(frames.dtype).removeprefix("torch."))
        pixels = frames.to(self.mean.device).permute(0, 1, 4, 2, 3).float()
        tokens: Tensor = self.tower((pixels / 255 - self.mean) / self.std)
        return tokens.float()

    def check(self, shape: Sequence[int], dtype: str) -> None:
        """Raises ValueError unless pixels of this shape and dtype are `[clips, T, S, S, 3] uint8`."""
        size = self.tower.image_size
        fits = len(shape) == 5 and shape[1] > 0 and tuple(shape[2:]) == (size, size, 3)
        if not fits or dtype != "uint8":
            raise ValueError(
                f"{self.provenance.name}: expected [clips, T, {size}, {size}, 3] uint8, got {list(shape)} {dtype}"
            )


def build_encoder(
    name: str, spec: EncoderSpec, frames_per_clip: int = APOLLO_FRAMES, stamped: Stamp | None = None
) -> VisionEncoder:
    """The encoder of a recipe, in float32 on the CPU, in evaluation mode; `Engine` runs it in its precision,
    and compiles it where the recipe says so.

    Args:
        name: Its feature column.
        spec: Architecture, size, weights, layer and preprocessing.
        frames_per_clip: Of a film's clips; only for the grid that provenance states.
        stamped: What `weights_stamp` gave; None takes the weights that are there now.

    Raises:
        ValueError: preprocessing, layer or weights do not fit the architecture.
    """
    build = build_siglip if spec.architecture == "siglip" else build_internvideo2
    try:
        path = None if spec.weights == "random" else weights_path(spec.weights, stamped)
        tower: Tower = build(spec, path)
    except InputError as error:
        raise InputError(f"encoders.{name}: {error}") from error
    provenance = EncoderProvenance(
        name=name,
        architecture=tower.architecture,
        weights=_label(spec, path),
        weights_sha256=state_sha256(tower.model),
        preprocessing_sha256=spec.preprocessing.sha256(),
        precision=spec.precision,
        compiled=spec.compiled,
        layer=spec.layer,
        grid=spec.feature_shape(frames_per_clip)[:3],
        pool=spec.store.pool,
        stored=spec.store.dtype,
        width=tower.width,
    )
    return VisionEncoder(tower, spec.preprocessing, provenance).eval()


def _label(spec: EncoderSpec, path: Path | None) -> str:
    """What provenance calls the weights: tuned ones tell what they were before, so that random ones stay RANDOM."""
    before = tuned_from(path) if path else ""
    return f"{before}, tuned: {spec.labelled_weights}" if before else spec.labelled_weights
