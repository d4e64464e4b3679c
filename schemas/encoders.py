"""`EncoderSpec`: one vision encoder of a recipe, its weights, and how its features are kept."""

import re
from pathlib import PurePath
from typing import Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from schemas.base import Record
from schemas.media import Preprocessing
from schemas.stores import S3Url

IMAGE_SIZES = {
    ("siglip", "full"): 384,
    ("siglip", "tiny"): 64,
    ("internvideo2", "full"): 224,
    ("internvideo2", "tiny"): 56,
}
"""Side in pixels of what each encoder sees; known here so that `mixture validate` can tell."""


class StoreSpec(Record):
    """How the features of an encoder are kept. What it loses is measured and stands in the ledger."""

    pool: int = Field(
        default=1, ge=1, le=27,
        description="Side of the window of the grid whose tokens are averaged: 2 keeps a quarter of the bytes.",
    )  # fmt: skip
    dtype: Literal["float16", "int8"] = Field(
        default="float16", description="`int8` keeps half of the bytes, with one float16 scale a token beside them."
    )
    place: Literal["shards", "column"] = Field(
        default="shards",
        description="`column` puts all of this encoder into tars of its own beside the shards: it can be added or "
        "replaced without touching them. Which samples a mixture holds never depends on a column.",
    )

    @property
    def is_lossless(self) -> bool:
        """Whether features are kept as the encoder gave them, in float16."""
        return self.pool == 1 and self.dtype == "float16"


TOKENS = {
    ("siglip", "full"): (27, 1152),
    ("siglip", "tiny"): (4, 64),
    ("internvideo2", "full"): (16, 1408),
    ("internvideo2", "tiny"): (4, 64),
}
"""Tokens along a side of the grid, and channels of each; known here so that `mixture plan` can tell."""

DEPTHS = {
    ("siglip", "full"): 27,
    ("siglip", "tiny"): 3,
    ("internvideo2", "full"): 40,
    ("internvideo2", "tiny"): 3,
}
"""Transformer blocks."""

INTERNVIDEO2_FRAMES = 4
"""It always gives the tokens of so many frames."""


URL_ENDS = {
    "siglip": (("/", ".safetensors", ".pt", ".pth"), "a folder with config.json and safetensors, or a file"),
    "internvideo2": ((".safetensors", ".pt", ".pth"), "a file"),
}
"""Ends of the s3 URLs of an encoder's weights, and what lies there."""


class HubWeights(NamedTuple):
    """A reference to weights on the Hugging Face hub: `hf:OWNER/NAME@COMMIT` or `hf:OWNER/NAME@COMMIT:FILE`."""

    repo: str
    revision: str
    file: str

    @classmethod
    def parse(cls, weights: str) -> "HubWeights | None":
        """None for what is no such reference. Raises ValueError for one that names no commit."""
        if not weights.startswith("hf:"):
            return None
        found = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)@([0-9a-f]{40})(?::([\w./-]+))?", weights)
        if not found:
            raise ValueError(
                f"weights {weights!r}: expected hf:OWNER/NAME@COMMIT or hf:OWNER/NAME@COMMIT:FILE, COMMIT being "
                "all 40 digits: a branch or tag may come to mean other weights"
            )
        return cls(found[1], found[2], found[3] or "")


class EncoderSpec(Record):
    """One vision encoder and its weights."""

    architecture: Literal["siglip", "internvideo2"] = Field(
        description="`siglip` sees frames one by one, `internvideo2` clips of four."
    )
    size: Literal["tiny", "full"] = Field(
        default="full", description="`full` is SO400M or 1B; `tiny` is for tests and the demo."
    )
    weights: str = Field(
        description="`random`; a local safetensors/.pt file, or folder (SigLIP); hf:OWNER/NAME@COMMIT[:FILE]; or "
        "s3://BUCKET/PATH/ or s3://BUCKET/PATH/FILE. Random weights are labelled everywhere."
    )
    seed: int = Field(default=0, ge=0, description="Of random weights; unused otherwise.")
    layer: int = Field(
        default=-2, ge=-40, le=-1, description="Hidden state taken: -1 is the last block, Apollo takes -2."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="What the encoder computes in. `bfloat16` is much faster on a GPU, and slower on most CPUs.",
    )
    compiled: bool = Field(
        default=False,
        description="Whether its forward is compiled (`torch.compile`): fewer passes over memory, other last bits; "
        "workers need a C++ compiler.",
    )
    preprocessing: Preprocessing = Field(description="From a decoded frame to the encoder's input.")
    store: StoreSpec = Field(default=StoreSpec(), description="How its features are kept.")

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, weights: str) -> str:
        HubWeights.parse(weights)
        S3Url.parse(weights)
        return weights

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        ends, what = URL_ENDS[self.architecture]
        if S3Url.parse(self.weights) and not self.weights.endswith(ends):
            raise ValueError(
                f"weights {self.weights!r}: {self.architecture} is read from {what}, whose URL ends in "
                + " or ".join(ends)
            )
        return self

    @model_validator(mode="after")
    def _check_layer(self) -> Self:
        depth = DEPTHS[self.architecture, self.size]
        if self.layer < -depth:
            raise ValueError(
                f"layer {self.layer} of {self.architecture} {self.size}: it has {depth} blocks, "
                f"so give -{depth} (after the first) to -1 (after the last)"
            )
        return self

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        side = IMAGE_SIZES[self.architecture, self.size]
        if self.preprocessing.size != side:
            raise ValueError(
                f"preprocessing.size is {self.preprocessing.size}, but {self.architecture} {self.size} "
                f"sees {side} x {side} pixels: set it to {side}"
            )
        return self

    def feature_shape(self, frames: int) -> tuple[int, int, int, int]:
        """`[time, height, width, channels]` of the features of a clip of `frames` frames, as they are stored."""
        side, channels = TOKENS[self.architecture, self.size]
        side = -(-side // self.store.pool)
        return (frames if self.architecture == "siglip" else INTERNVIDEO2_FRAMES, side, side, channels)

    @property
    def speed_class(self) -> str:
        """What decides how fast it is on one machine: `siglip full bfloat16`."""
        return f"{self.architecture} {self.size} {self.precision}"

    @property
    def labelled_weights(self) -> str:
        """The words provenance shows: random weights say so."""
        if self.weights == "random":
            return f"RANDOM seed={self.seed}"
        if HubWeights.parse(self.weights) or S3Url.parse(self.weights):
            return self.weights  # neither form can hold a secret
        # The name alone: a mixture must not depend on the folder its weights lay in; their digest says the rest.
        return PurePath(self.weights).name
