"""`Tower`: what both encoder architectures have in common, seen from outside."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from schemas.base import InputError
from schemas.encoders import EncoderSpec


class Tower(nn.Module, ABC):
    """A vision transformer that turns normalised frames into a grid of tokens.

    Shapes: B clips, T frames a clip, S pixels a side, (t, h, w) tokens, D channels.
    """

    architecture: str
    """The name provenance shows."""
    image_size: int
    """S, pixels."""
    width: int
    """D."""
    model: nn.Module
    """Holds all weights, under the names they are published with."""

    @abstractmethod
    def grid(self, frames: int) -> tuple[int, int, int]:
        """Tokens (t, h, w) of a clip of `frames` frames."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """`[B, T, 3, S, S]` float, normalised, to `[B, t, h, w, D]` in the dtype of the weights."""


def check_spec(spec: EncoderSpec, depth: int, image_size: int) -> None:
    """InputError where a tower of `depth` blocks and `image_size` pixels cannot do what `spec` asks."""
    if spec.preprocessing.size != image_size:
        raise InputError(
            f"preprocessing.size is {spec.preprocessing.size}, but {spec.architecture} {spec.size} "
            f"sees {image_size} x {image_size} pixels: set it to {image_size}"
        )
    if not -depth <= spec.layer <= -1:
        raise InputError(
            f"layer {spec.layer} of {spec.architecture} {spec.size}: it has {depth} blocks, "
            f"so give -{depth} (after the first) to -1 (after the last)"
        )
