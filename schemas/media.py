"""How frames are asked for: the sampling grid and each encoder's preprocessing."""

from fractions import Fraction
from typing import Literal

from pydantic import Field

from schemas.base import Rational, Record, Sha256, digest

Sampling = Literal["fps", "uniform", "released_compat"]
"""How the times of a film's frames are chosen: see `DecodeSpec.sampling`."""


FramesCodec = Literal["rawvideo", "mjpeg"]
"""How carried frames are kept, by libav's names."""

FRAMES_SUFFIXES: dict[FramesCodec, Literal["npy", "mjpeg"]] = {"rawvideo": "npy", "mjpeg": "mjpeg"}
"""End of a frames member's name."""


class Preprocessing(Record):
    """From a decoded frame to an encoder's uint8 input, and from there to its float input.

    The order is Apollo's: pad to a centred square, resize, (on the device) scale and normalise.
    """

    size: int = Field(ge=14, le=1024, description="Side of the square input, pixels.")
    interpolation: Literal["bicubic", "bilinear"] = Field(
        default="bicubic", description="Filter of the one resize."
    )
    pad_colour: tuple[int, int, int] = Field(
        default=(127, 127, 127), description="RGB 0..255 that fills the square around the frame."
    )
    mean: tuple[float, float, float] = Field(description="Per channel, of values in [0, 1].")
    std: tuple[float, float, float] = Field(description="Per channel, of values in [0, 1].")

    def sha256(self) -> Sha256:
        """Digest for provenance: two feature columns may be mixed only if it is equal."""
        return digest(self)


class DecodeSpec(Record):
    """Which frames are taken, and what a decoder may cost."""

    sampling: Sampling = Field(
        default="fps",
        description="`fps`: clips on an exact time grid (Apollo's choice). `uniform`: max_clips x frames_per_clip "
        "times spread over the film, whatever its length. `released_compat`: the frame indices of Apollo's "
        "released code, its rounding included.",
    )
    fps: Rational = Field(
        default=Fraction(2), gt=0, le=60,
        description="Frames a second asked for. More costs decode, encode and storage in proportion.",
    )  # fmt: skip
    frames_per_clip: int = Field(
        default=4, ge=1, le=64, description="Frames of a clip; Apollo's encoders see 4 (2 s at 2 fps)."
    )
    max_clips: int = Field(
        default=25, ge=1, le=1000,
        description="Most clips of a film; longer films get this many, spread by centred partitions.",
    )  # fmt: skip
    on_damage: Literal["reject", "drop_frames", "salvage"] = Field(
        default="reject",
        description="What becomes of a film with damaged frames among those asked for. `reject`: the sample is "
        "rejected. `drop_frames`: clips that hold one are left out. `salvage`: as `drop_frames`, and an "
        "MPEG-TS or MPEG-PS file whose times jump back is repaired.",
    )
    backend: Literal["pyav", "decord"] = Field(
        default="pyav",
        description="What decodes films. `decord` is a second opinion: it decodes every frame, sees no damage, and "
        "reads MP4 and Matroska only.",
    )
    deadline_s: float = Field(
        default=60.0, gt=0, le=3600,
        description="Wall-clock seconds for one sample; then its process is killed and it is rejected.",
    )  # fmt: skip
    memory_mb: int = Field(
        default=4096, ge=256, le=262_144,
        description="Address space of a decoding process, MiB. Raise it for 8K films.",
    )  # fmt: skip
    max_pixels: int = Field(
        default=8192 * 8192, ge=1, description="Largest frame accepted, width x height; checked before decoding."
    )
    max_duration_s: int = Field(
        default=24 * 3600, ge=1, description="Longest film accepted, seconds; checked before decoding."
    )
