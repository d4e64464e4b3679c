"""The recipe: everything that decides what a mixture holds, and nothing that does not.

Every field has a unit or meaning, a range and a word on what raising it does; `mixture init`
prints them as comments. `runtime` is left out of every fingerprint: it changes speed only.
"""

from fractions import Fraction
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.base import Name, Rational, Record, Sha256, sha256_text
from schemas.encoders import EncoderSpec
from schemas.llm import AllowanceSpec, ChatEngine, ChatModel, EngineSpec, preset_engine
from schemas.media import DecodeSpec, FramesCodec
from schemas.mixture import MixtureSpec
from schemas.sample import Category, Modality
from schemas.sources import SourceSpec
from schemas.units import Unit


class WrittenFor(Record):
    """Samples that a chat model is asked about; by default all but texts."""

    modalities: tuple[Modality, ...] = Field(
        default=(Modality.IMAGE, Modality.MULTI_IMAGE, Modality.VIDEO), min_length=1,
        description="Samples of these modalities only; a text shows nothing to talk about.",
    )  # fmt: skip
    categories: tuple[Category, ...] = Field(default=(), description="Of these categories only; () is all.")

    @model_validator(mode="after")
    def _check_modalities(self) -> Self:
        if Modality.TEXT in self.modalities:
            raise ValueError("no model is asked about a text, which shows nothing: leave text out of modalities")
        return self

    def takes(self, modality: Modality, category: Category) -> bool:
        """Whether a model is asked about such a sample."""
        return modality in self.modalities and (not self.categories or category in self.categories)


class ConversationSpec(Record):
    """How annotations become talk."""

    generator: Literal["template", "model"] = Field(
        default="template",
        description="`template` needs no model: it words the annotations as they are. `model` asks the chat model.",
    )
    model: ChatModel | None = Field(
        default=None, description="The chat model: a preset's name, such as llama-3.1-70b-instruct, or its fields."
    )
    written_for: WrittenFor = Field(
        default=WrittenFor(),
        description="Samples whose talk the chat model writes; that of the others is worded by the template.",
    )
    min_turns: int = Field(
        default=2, ge=1, le=32, description="Fewest rounds of a talk that the chat model writes."
    )
    max_turns: int = Field(
        default=6, ge=1, le=32,
        description="Most question-and-answer rounds of a talk; the rest of a sample's questions is left out.",
    )  # fmt: skip
    max_question_characters: int = Field(
        default=200, ge=16, le=2_000, description="Longest question that the chat model may write."
    )
    max_answer_characters: int = Field(
        default=600,
        ge=16,
        le=4_000,
        description="Longest answer that the chat model may write; 600 are about 100 words.",
    )
    tries: int = Field(
        default=3, ge=1, le=10,
        description="How often the chat model is asked, each time with another seed, before a sample is refused.",
    )  # fmt: skip
    checks: Literal["strict", "structural"] = Field(
        default="strict",
        description="What a written talk must keep: `strict` judges language, grounding and manners too, "
        "`structural` its form alone (for models that cannot write).",
    )
    tokenizer: str = Field(
        default="",
        description="Path of the `tokenizer.json` (of Hugging Face's tokenizers) that counts LLM tokens; without "
        "one none are counted.",
    )

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.generator == "model" and self.model is None:
            raise ValueError("generator is model: name the chat model, such as model: llama-3.1-70b-instruct-fp8")
        if self.generator == "model" and self.min_turns > self.max_turns:
            raise ValueError(f"min_turns {self.min_turns} is above max_turns {self.max_turns}: swap or mend them")
        return self

    @property
    def writer(self) -> str:
        """Who writes the talk, as provenance names it."""
        return self.model.name if self.generator == "model" and self.model else "template"


class ShardsSpec(Record):
    """How samples are packed."""

    max_bytes: int = Field(
        default=1_000_000_000, ge=10_240, le=2**40,
        description="Most bytes of a tar; a sample that is larger by itself has one of its own. Keep tars at "
        "100 MB to 2 GB, and more of them than ranks x workers.",
    )  # fmt: skip
    samples_per_shard: int = Field(
        default=10_000, ge=1, le=100_000,
        description="Most samples of a tar: for samples so small that `max_bytes` is far.",
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
    engine: ChatEngine | None = Field(
        default=None,
        description="What serves the chat model: a preset's name, or the fields; else that of the model's preset.",
    )
    allowance: AllowanceSpec = Field(default=AllowanceSpec(), description="What the chat model may cost.")


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
        if self.mixture.annotators.denies(self.conversations.writer):
            raise ValueError(
                f"conversations are written by {self.conversations.writer!r}, which mixture.annotators.deny shuts "
                "out: name another generator, or mend the pattern"
            )
        return self

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        spec = self.conversations
        if spec.generator == "model" and self.engine is None:
            raise ValueError(
                f"no runtime.engine is given, and no preset is {spec.writer!r}: say what serves the chat model"
            )
        if self.engine and self.engine.kind == "endpoint" and not self.engine.url:
            raise ValueError("runtime.engine.kind is endpoint: give its url, such as http://host:8000/v1")
        allowed = self.runtime.allowance
        if allowed.usd and not (allowed.usd_per_million_input or allowed.usd_per_million_output):
            raise ValueError(
                "runtime.allowance.usd has no prices beside it: give usd_per_million_input and _output"
            )
        return self

    @property
    def engine(self) -> EngineSpec | None:
        """What serves the chat model."""
        return self.runtime.engine or preset_engine(self.conversations.model)

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
