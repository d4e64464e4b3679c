"""`Tower`: what both encoder architectures have in common, seen from outside."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


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
