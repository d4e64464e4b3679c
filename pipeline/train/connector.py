"""Apollo's connector: encoder grids made one, concatenated on channels, resampled to few tokens.

    [clips, t_e, h_e, w_e, D_e] per encoder
      -> trilinear, fp32 -> [clips, T, H, W, sum D] -> Linear -> [clips, T*H*W, hidden]
      -> Perceiver resampler -> [clips, tokens, hidden]

Apollo, section 4 (SigLIP + InternVideo2 in one resampler is Table 8's "unified") and the connector
of its released models. This module needs torch: import it inside the function that uses it.
"""

from collections.abc import Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from schemas.base import Record


class ConnectorSpec(Record):
    """Everything that decides the connector's parameters."""

    widths: tuple[int, ...] = Field(min_length=1)
    """Channels of each encoder, in concatenation order."""
    grid: tuple[int, int, int]
    """The common token grid [time, height, width]."""
    hidden: int = Field(gt=0)
    """Width of the language model."""
    tokens: int = Field(gt=0)
    """Latents, which are the outputs a clip."""
    heads: int = Field(default=16, gt=0)
    kv_heads: int = Field(default=4, gt=0)
    head_dim: int = Field(default=96, gt=0)
    depth: int = Field(default=1, gt=0)
    ff_multi: int = Field(default=4, gt=0)

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide heads, got {self.heads = } and {self.kv_heads = }")
        return self


def common_grid(grids: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The largest time, height and width of the encoders' grids: (4, 27, 27) for Apollo's pair."""
    time, height, width = (max(axis) for axis in zip(*grids, strict=True))
    return time, height, width


def _he(layer: nn.Linear) -> None:
    """Weights N(0, 2 / fan_in), bias 0 (Apollo's released connector): attention scores start with deviation 2.

    Each latent then looks at cells of its own; torch's default would show all of them the same mean.
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def to_grid(features: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """`[clips, t, h, w, D]` -> `[clips, *grid, D]`, trilinear in fp32, same dtype out.

    Along an axis of length 1 (the time of an image) this repeats the one value.
    """
    if tuple(features.shape[1:4]) == grid:
        return features
    channels_first = features.permute(0, 4, 1, 2, 3).float()
    resized = F.interpolate(channels_first, size=grid, mode="trilinear", align_corners=False)
    return resized.permute(0, 2, 3, 4, 1).to(features.dtype)


class WeightedNorm(nn.Module):
    """LayerNorm times one more learned vector, which starts as N(1, 0.02) (Apollo's released connector)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.weight = nn.Parameter(torch.empty(hidden))
        nn.init.normal_(self.weight, mean=1.0, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., hidden]` -> `[..., hidden]`."""
        scaled: Tensor = self.norm(x) * self.weight
        return scaled


class PerceiverAttention(nn.Module):
    """Latents attend to context and latents together; several query heads share a key/value head."""

    def __init__(self, spec: ConnectorSpec) -> None:
        super().__init__()
        self.head_dim = spec.head_dim
        self.q_proj = nn.Linear(spec.hidden, spec.heads * spec.head_dim, bias=False)
        self.k_proj = nn.Linear(spec.hidden, spec.kv_heads * spec.head_dim, bias=False)
        self.v_proj = nn.Linear(spec.hidden, spec.kv_heads * spec.head_dim, bias=False)
        self.o_proj = nn.Linear(spec.heads * spec.head_dim, spec.hidden, bias=False)
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            _he(layer)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """`[clips, tokens, hidden]`, `[clips, cells, hidden]` -> `[clips, tokens, hidden]`."""
        seen = torch.cat([context, latents], dim=1)
        attended = F.scaled_dot_product_attention(
            self._heads(self.q_proj(latents)),
            self._heads(self.k_proj(seen)),
            self._heads(self.v_proj(seen)),
            enable_gqa=True,
        )
        out: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)


class SwiGlu(nn.Module):
    """`down(silu(gate x) * up x)`, no bias.

    Weights start with standard deviation sqrt(0.4 / fan_in), the last one's halved in variance
    (Apollo's released connector).
    """

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)
        for layer, factor in ((self.gate_proj, 1), (self.up_proj, 1), (self.down_proj, 2)):
            nn.init.normal_(layer.weight, std=(0.4 / (layer.in_features * factor)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., hidden]` -> `[..., hidden]`."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class PerceiverLayer(nn.Module):
    """Pre-norm cross-attention and pre-norm MLP, each with a residual on the latents."""

    def __init__(self, spec: ConnectorSpec) -> None:
        super().__init__()
        self.latents_norm = WeightedNorm(spec.hidden)
        self.context_norm = WeightedNorm(spec.hidden)
        self.attention = PerceiverAttention(spec)
        self.mlp_norm = WeightedNorm(spec.hidden)
        self.mlp = SwiGlu(spec.hidden, spec.hidden * spec.ff_multi)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """`[clips, tokens, hidden]`, `[clips, cells, hidden]` -> `[clips, tokens, hidden]`."""
        latents = latents + self.attention(self.latents_norm(latents), self.context_norm(context))
        out: Tensor = latents + self.mlp(self.mlp_norm(latents))
        return out


class Connector(nn.Module):
    """Projector (Apollo's `mlp1x_gelu`, which is one Linear) and Perceiver resampler.

    Latents start as truncated N(0, 0.02), the habit of the field. Apollo's released code draws them
    from N(0.5, 0.1): all latents then share one large direction, which we saw no reason to copy.
    """

    def __init__(self, spec: ConnectorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.projector = nn.Linear(sum(spec.widths), spec.hidden)
        self.latents = nn.Parameter(torch.empty(spec.tokens, spec.hidden))
        nn.init.trunc_normal_(self.latents, std=0.02)
        _he(self.projector)
        self.layers = nn.ModuleList(PerceiverLayer(spec) for _ in range(spec.depth))
        self.norm = WeightedNorm(spec.hidden)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """One `[clips, t, h, w, D]` an encoder, in order -> `[clips, tokens, hidden]`.

        Raises ValueError when the arrays are not those of the encoders it was built for.
        """
        found = tuple(array.shape[-1] for array in features)
        if found != self.spec.widths:
            raise ValueError(f"the connector joins encoders of widths {self.spec.widths}, got {found}")
        joined = torch.cat([to_grid(array, self.spec.grid) for array in features], dim=-1)
        context = self.projector(joined.flatten(1, 3))
        latents = self.latents.expand(len(context), -1, -1)
        for layer in self.layers:
            latents = layer(latents, context)
        out: Tensor = self.norm(latents)
        return out
