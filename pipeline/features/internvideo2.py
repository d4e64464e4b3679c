"""InternVideo2's vision trunk in plain PyTorch: no flash-attn, no apex, no timm.

Architecture and parameter names are those of the stage-2 release (OpenGVLab/InternVideo,
`InternVideo2/multi_modality`, Apache-2.0), so that its checkpoints load; the CLIP heads, which no
feature needs, are left out. Held to the public reference within 5e-6 on its own outputs.

Shapes: B clips, T frames, G patches a side, N = 1 + T*G*G tokens (the class token first, then
patches by time, height, width), C channels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.features.origins import weights_path
from pipeline.features.tower import Tower
from pipeline.features.weights import fill_at_random, load_strictly, read_checkpoint
from schemas.encoders import EncoderSpec

HEAD_PREFIXES = ("clip_projector.", "clip_decoder.", "final_clip_decoder.", "clip_pos_embed", "clip_img_pos_embed")
"""Published parameters of the CLIP distillation heads: known, and not part of the trunk."""
_CHECKPOINT_PREFIX = "vision_encoder."


@dataclass(frozen=True)
class InternVideo2Config:
    """Shape of the trunk, by upstream's argument names; the defaults are the 1B model at stage 2, 4 frames."""

    img_size: int = 224
    patch_size: int = 14
    embed_dim: int = 1408
    depth: int = 40
    num_heads: int = 16
    mlp_ratio: float = 48 / 11
    num_frames: int = 4
    gelu: Literal["none", "tanh"] = "none"
    """PyTorch's `approximate`. `none` (erf) is upstream's reference path; its fused GPU path computes
    `tanh`, with the same weights: outputs differ by some 1e-3 relative."""

    def __post_init__(self) -> None:
        if self.img_size % self.patch_size or self.embed_dim % self.num_heads:
            raise ValueError(f"patches must tile the image, and heads divide the channels: {self}")

    @property
    def grid(self) -> int:
        """G, patches a side."""
        return self.img_size // self.patch_size


TINY = InternVideo2Config(img_size=56, embed_dim=64, depth=3, num_heads=4)
"""For tests and the demo: a 4 x 4 grid a frame."""
CONFIGS = {"full": InternVideo2Config(), "tiny": TINY}


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, in float32, eps 1e-6, with a weight and no bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; the cast back to the input's dtype comes before the weight, as upstream has it."""
        # one kernel on a GPU; on a CPU, to the last bit, x * rsqrt(mean(x^2) + eps) written out in float32
        return self.weight * F.rms_norm(x, x.shape[-1:], eps=1e-6)


class LayerScale(nn.Module):
    """A learned factor a channel on a residual branch, multiplied in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, same dtype out."""
        return (x * self.gamma.float()).to(x.dtype)  # bfloat16 times float32 is computed in float32


class Attention(nn.Module):
    """Self-attention whose queries and keys are normed over all channels, before the split into heads."""

    def __init__(self, config: InternVideo2Config) -> None:
        super().__init__()
        channels = config.embed_dim
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.q_norm, self.k_norm = RMSNorm(channels), RMSNorm(channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, C]` to `[B, N, C]`; every token sees every other, across time and space."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        heads = [
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (self.q_norm(q), self.k_norm(k), v)
        ]
        attended = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return self.proj(attended)  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, config: InternVideo2Config) -> None:
        super().__init__()
        hidden = int(config.embed_dim * config.mlp_ratio)  # upstream truncates: 64 * 48/11 is 279
        self.gelu = config.gelu
        self.fc1 = nn.Linear(config.embed_dim, hidden)
        self.fc2 = nn.Linear(hidden, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, C]` to `[B, N, C]`."""
        return self.fc2(F.gelu(self.fc1(x), approximate=self.gelu))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale on both branches."""

    def __init__(self, config: InternVideo2Config) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(config.embed_dim), RMSNorm(config.embed_dim)
        self.attn, self.mlp = Attention(config), Mlp(config)
        self.ls1, self.ls2 = LayerScale(config.embed_dim), LayerScale(config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, C]` to `[B, N, C]`."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class PatchEmbed(nn.Module):
    """One token for each `patch_size` square of each frame (tubelets are one frame long)."""

    def __init__(self, config: InternVideo2Config) -> None:
        super().__init__()
        kernel = (1, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(3, config.embed_dim, kernel_size=kernel, stride=kernel)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, 3, T, S, S]` to `[B, T*G*G, C]`, time first."""
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class InternVideo2(nn.Module):
    """The trunk. Its parameters hold nothing of use until they are loaded or filled."""

    def __init__(self, config: InternVideo2Config) -> None:
        super().__init__()
        self.config = config
        tokens, channels = config.grid**2, config.embed_dim
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.num_frames * tokens, channels))
        self.img_pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, channels))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))

    def forward(self, x: Tensor, layer: int = -1, use_image: bool = False) -> Tensor:
        """Tokens after a block, without a final norm (there is none).

        Args:
            x: `[B, 3, T, S, S]`, normalised; T is `num_frames`, or 1 with `use_image`.
            layer: -1 is the last block, -2 the one before, which spares the last.
            use_image: Takes the position embedding of images.

        Returns:
            `[B, 1 + T*G*G, C]` in the weights' dtype, class token first.

        Raises:
            ValueError: x has another shape, or there is no such layer.
        """
        config = self.config
        expected = (3, 1 if use_image else config.num_frames, config.img_size, config.img_size)
        if x.ndim != 5 or x.shape[1:] != expected:
            raise ValueError(
                f"expected [clips, {', '.join(map(str, expected))}], got {list(x.shape)} ({use_image=})"
            )
        if not -config.depth <= layer <= -1:
            raise ValueError(f"layer {layer}, expected -{config.depth} to -1")
        patches = self.patch_embed(x.to(self.cls_token.dtype))
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1)
        tokens = tokens + (self.img_pos_embed if use_image else self.pos_embed)
        for block in self.blocks[: config.depth + 1 + layer]:
            tokens = block(tokens)
        return tokens


class InternVideo2Tower(Tower):
    """The trunk as Apollo uses it: four frames of a clip, all patches of one hidden state.

    Frames are repeated or strided to four, an image four times over, and always take the position
    embedding of films (Apollo's released encoder, `internvideo_encoder.py`).
    """

    model: InternVideo2

    def __init__(self, model: InternVideo2, architecture: str, layer: int) -> None:
        super().__init__()
        self.model, self.architecture, self.layer = model, architecture, layer
        self.image_size, self.width = model.config.img_size, model.config.embed_dim

    def grid(self, frames: int) -> tuple[int, int, int]:
        """(4, h, w), however many frames came in."""
        config = self.model.config
        return (config.num_frames, config.grid, config.grid)

    def forward(self, pixels: Tensor) -> Tensor:
        """See `Tower.forward`; the class token is dropped."""
        chosen = pixels[:, frame_indices(pixels.shape[1], self.model.config.num_frames)]
        tokens: Tensor = self.model(chosen.transpose(1, 2), layer=self.layer)
        return tokens[:, 1:].reshape(len(pixels), *self.grid(pixels.shape[1]), self.width)


def frame_indices(frames: int, wanted: int) -> list[int]:
    """`floor(i * frames / wanted)`: repeats in place when there are too few, strides when too many.

    1 -> 0,0,0,0   2 -> 0,0,1,1   4 -> 0,1,2,3   8 -> 0,2,4,6 (wanted = 4). Apollo's code agrees where
    `frames` is 1 or a multiple of 4, and breaks elsewhere.
    """
    return [i * frames // wanted for i in range(wanted)]


def build_internvideo2(spec: EncoderSpec, path: Path | None = None) -> InternVideo2Tower:
    """The tower that `spec` asks for, in float32 on the CPU.

    `spec.weights` is `random`, or names a file with the trunk's parameters: bare, or under `vision_encoder.`
    beside the other parts of a stage-2 checkpoint; `path` is where they lie, if that is known. Raises ValueError
    when they do not fit.
    """
    config = CONFIGS[spec.size]
    with torch.device("meta"):  # neither time nor random numbers are spent on values that are replaced
        model = InternVideo2(config)
    if spec.weights == "random":
        fill_at_random(model.to_empty(device="cpu"), spec.seed)
    else:
        state = read_checkpoint(path or weights_path(spec.weights))
        load_strictly(model, trunk_of(state), spec.weights)
    name = "internvideo2-1b-patch14-224" if spec.size == "full" else "internvideo2-tiny"
    return InternVideo2Tower(model.eval(), name, spec.layer)


def trunk_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trunk's share of a checkpoint: siblings of `vision_encoder.` and the CLIP heads left out."""
    if any(key.startswith(_CHECKPOINT_PREFIX) for key in state):
        state = {
            key.removeprefix(_CHECKPOINT_PREFIX): value
            for key, value in state.items()
            if key.startswith(_CHECKPOINT_PREFIX)
        }
    return {key: value for key, value in state.items() if not key.startswith(HEAD_PREFIXES)}
