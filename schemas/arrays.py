"""`Frames` and `Features`: records that carry arrays beside their metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schemas.base import Key, Name, Nanoseconds, Record, Sha256


class ClipTimes(Record):
    """The frames of one clip: which medium, which span, and when each frame was asked and shown."""

    medium: int = Field(default=0, ge=0)
    """Index into `Sample.media`."""
    start_ns: Nanoseconds
    exclusive_end_ns: Nanoseconds
    t_ns: tuple[Nanoseconds, ...] = Field(min_length=1)
    """The grid times that asked for the frames."""
    pts_ns: tuple[Nanoseconds, ...]
    """Presentation times of the frames that are shown at `t_ns` (greatest pts <= t)."""

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if len(self.t_ns) != len(self.pts_ns):
            raise ValueError(f"{len(self.t_ns)} times asked but {len(self.pts_ns)} frames shown")
        if any(pts > t for t, pts in zip(self.t_ns, self.pts_ns, strict=True)):
            raise ValueError(f"a frame is later than the time that asked for it: {self.t_ns=} {self.pts_ns=}")
        return self


class StorageLoss(Record):
    """How far stored features are from what the encoder gave."""

    cosine: float
    """Mean over tokens, of the native token and the stored one in its place."""
    relative_error: float = Field(ge=0)
    """Norm of the difference over the norm of the native tokens."""


class EncoderProvenance(Record):
    """What made a feature array, enough to make it again or to refuse to mix it."""

    name: Name
    architecture: str
    weights: str
    """Where the weights come from. Random ones read `RANDOM seed=...`, so nobody takes them for real."""
    weights_sha256: Sha256
    preprocessing_sha256: Sha256
    precision: str = "float32"
    """What the encoder computed in; its tokens are stored in float16."""
    compiled: bool = False
    """Whether a compiled graph computed it, whose fused kernels round otherwise."""
    layer: int
    """Index of the hidden state taken, counted as transformers does (-1 last, -2 one before)."""
    grid: tuple[int, int, int]
    """Tokens of a clip as stored: [time, height, width]."""
    pool: int = 1
    """Side of the window of native tokens that a stored one is the mean of."""
    stored: Literal["float16", "int8"] = "float16"
    """With int8, a token is its codes times its scale."""
    width: int = Field(gt=0)
    """Channels of a token."""

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of its arrays, in the order of the shards' members."""
        return (self.name, f"{self.name}.scale") if self.stored == "int8" else (self.name,)

    @property
    def is_random(self) -> bool:
        """Whether its weights were drawn, not learned (law 9)."""
        return self.weights.startswith("RANDOM")


class Decoding(Record):
    """What decoding found of a sample's media, and what it had to do to them (law 9)."""

    clips: tuple[ClipTimes, ...] = ()
    dropped_clips: int = Field(default=0, ge=0)
    """Clips left out because a frame of theirs is damaged (`decode.on_damage`)."""
    salvaged: bool = False
    """A file of it could be read only after a repair."""


class FramesMeta(Decoding):
    """What `Frames` says beside its pixels."""

    key: Key
    kept: bool = False
    """Whether the shards carry its frames."""


class FeaturesMeta(Decoding):
    """What `Features` says beside its arrays."""

    key: Key
    encoders: tuple[EncoderProvenance, ...] = ()
    storage_loss: dict[Name, StorageLoss] = Field(default_factory=dict)
    """By encoder; none for one that is stored as it is, or a sample without clips."""
    not_finite: dict[Name, str] = Field(default_factory=dict)
    """Encoders of a column that gave values which float16 cannot hold, and what was seen; their arrays are zero."""


@dataclass(frozen=True)
class Frames:
    """Decoded clips of one sample, one pixel array an encoder.

    `pixels[encoder]` is `[clips, frames, height, width, 3] uint8` RGB, read-only, already padded
    and resized for that encoder; zero clips for a text sample, one frame a clip for an image.
    `mjpeg[encoder]` is `[bytes] uint8`, their JPEG pictures one behind the other, where the recipe asks
    for them in the shards in that form.
    """

    meta: FramesMeta
    pixels: Mapping[str, NDArray[np.uint8]]
    mjpeg: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, array in self.pixels.items():
            _check(name, array, np.uint8, len(self.meta.clips))
        object.__setattr__(self, "pixels", _read_only(self.pixels))
        object.__setattr__(self, "mjpeg", _read_only(self.mjpeg))

    @property
    def key(self) -> str:
        """The sample's key."""
        return self.meta.key


@dataclass(frozen=True)
class Features:
    """Encoder outputs of one sample.

    `arrays[column]` is `[clips, time, height, width, channels]`, read-only, on the encoder's own grid or a
    pooled one; time is 1 where a frame encoder saw one image. It is float16, or int8 codes beside a column
    `{encoder}.scale` of one channel (`EncoderProvenance.arrays`). `frames[encoder]` holds the pixels, or the
    `mjpeg`, of `Frames` where the shards carry them, and is `[0, ...]` elsewhere.
    """

    meta: FeaturesMeta
    arrays: Mapping[str, NDArray[Any]]
    frames: Mapping[str, NDArray[np.uint8]]

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            _check(name, array, np.int8 if f"{name}.scale" in self.arrays else np.float16, len(self.meta.clips))
        object.__setattr__(self, "arrays", _read_only(self.arrays))
        object.__setattr__(self, "frames", _read_only(self.frames))

    @property
    def key(self) -> str:
        """The sample's key."""
        return self.meta.key


def restored(name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float16]:
    """The features of encoder `name` from its columns: `[clips, time, height, width, channels] float16`."""
    scale = columns.get(f"{name}.scale")
    if scale is None:
        return columns[name]
    return (columns[name] * scale.astype(np.float32)).astype(np.float16)


def _check(name: str, array: NDArray[Any], dtype: type, clips: int) -> None:
    if array.ndim != 5 or array.dtype != dtype or array.shape[0] != clips:
        raise ValueError(
            f"{name}: expected [{clips}, time, height, width, channels] {np.dtype(dtype)}, "
            f"got {array.shape = } {array.dtype}"
        )


def _read_only(arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    views = {}
    for name, array in arrays.items():
        views[name] = array.view()
        views[name].flags.writeable = False
    return views
