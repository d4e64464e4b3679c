"""`ShardSample` (the JSON member of a sample in a tar) and `Ledger` (the account of a mixture)."""

from fractions import Fraction
from typing import Literal, Self

from pydantic import Field

from schemas.arrays import ClipTimes, EncoderProvenance, StorageLoss
from schemas.base import Folder, Key, Name, Rational, Record, Sha256
from schemas.conversation import Turn
from schemas.exclusions import ExclusionList
from schemas.gates import Gates
from schemas.media import FRAMES_SUFFIXES, FramesCodec, Sampling
from schemas.plan import STRATUM_PATTERN, Barred
from schemas.sample import Category, Generator, MediaRef, Modality, Split
from schemas.units import Unit

LEDGER = "ledger.json"
"""The ledger's name in the mixture's folder. It is written last: a folder without it holds no mixture."""
TOKENIZER = "tokenizer.json"
"""The tokenizer's name there, where LLM tokens are counted."""
CARD = "README.md"
"""The dataset card's name there."""
INDEX = "index.parquet"
"""The index's name there: one row a sample."""

PREFIX_BOUND = Fraction(1)
"""Samples that a modality's count stays strictly within of its share, in every prefix of an order made at once."""
KEPT_PREFIX_BOUND = Fraction(5, 2)
"""Likewise of an order that was kept while the mixture was changed (docs/decisions/0013-amend.md)."""


class ShardSample(Record):
    """`{key}.json` in a tar: the same keys in every sample, never null, so that any reader's schema holds."""

    key: Key
    source: Name
    modality: Modality
    category: Category
    split: Split
    licence: str
    annotator: Generator
    generator: Generator
    """Of the conversation."""
    binding_sha256: Sha256
    """`Sample.binding_sha256()`: of key, media and annotations, echoed by the generator."""
    text_sha256: Sha256
    """`digest([key, binding_sha256, turns])`: a text moved to another sample no longer fits it."""
    conversations: tuple[Turn, ...] = Field(min_length=2)
    llm_tokens: int = Field(default=0, ge=0)
    """Of all turns, by the tokenizer that the ledger names, template and special tokens left out; 0 without one."""
    epoch: int = Field(default=0, ge=0)
    """Which pass over its source this is: 0 for the first; a later one has a key that ends in `-e{epoch}`."""
    questions: tuple[dict[str, str], ...] = ()
    """`{question, answer, topic, evidence}` of the annotations, for scoring held-out samples."""
    media: tuple[MediaRef, ...] = ()
    clips: tuple[ClipTimes, ...] = ()
    dropped_clips: int = Field(default=0, ge=0)
    """Clips of the grid that are missing because the film is damaged there."""
    salvaged: bool = False
    """Its film could be read only after a repair."""
    encoders: tuple[EncoderProvenance, ...] = ()
    storage_loss: dict[Name, StorageLoss] = Field(default_factory=dict)
    """What its stored features lost, by encoder."""


class ColumnSample(Record):
    """`{key}.{encoder}.json` in a column's tar: whose features these are, and what made them."""

    key: Key
    binding_sha256: Sha256
    """As in the sample's own JSON: features of another film no longer fit it."""
    clips_sha256: Sha256
    """`digest` of `clips` as the sample's own JSON has them: features of other frames no longer fit it."""
    encoder: EncoderProvenance
    storage_loss: dict[Name, StorageLoss] = Field(default_factory=dict)
    """As in `ShardSample`."""


class Count(Record):
    """One line of an account."""

    samples: int = 0
    turns: int = 0
    llm_tokens: int = 0
    """As the samples tell; 0 where no tokenizer was named."""
    visual_tokens: int = 0
    """`frames` times the `tokens_per_frame` of the account."""
    clips: int = 0
    frames: int = 0
    media_ns: int = 0
    """Sum of the spans of the media that samples speak about."""
    bytes: int = 0
    """Of the members of the samples' own tars, headers left out; those of columns count in `Ledger.by_encoder`."""

    def of(self, unit: Unit) -> int:
        """The count in `unit`; seconds in nanoseconds."""
        return int(getattr(self, unit.field))


class ShardEntry(Record):
    """One tar file."""

    name: str = Field(pattern=r"^shards/(train|heldout)-\d{6}\.tar$")
    """Path in the mixture's folder: `shards/{split}-{000000}.tar`."""
    split: Split
    sha256: Sha256
    size_bytes: int = Field(ge=0)
    count: Count


class ColumnShard(Record):
    """One tar of a column: the samples of the shard of its number, in the same order."""

    name: str = Field(pattern=r"^shards/(train|heldout)-\d{6}\.[a-z0-9][a-z0-9_-]{0,31}\.tar$")
    """Path in the mixture's folder: `shards/{split}-{000000}.{encoder}.tar`."""
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class Column(Record):
    """An encoder with tars of its own."""

    encoder: Name
    shards: tuple[ColumnShard, ...]


class Asked(Record):
    """One stratum's quota and what became of it."""

    stratum: str = Field(pattern=STRATUM_PATTERN)
    """`Stratum.label`: `split/modality/source`, or `split/modality/source/category`."""
    asked: int = Field(ge=0)
    """Samples."""
    found: int = Field(default=0, ge=0)
    """Samples of it in the shards; the writer counts, whatever it was handed."""
    candidates: int = Field(ge=0)
    replaced: int = Field(ge=0)
    """Places that went to a reserve because a first choice failed."""
    target: int = Field(default=0, ge=0)
    """What the recipe asks, in the ledger's unit (seconds in ns); 0 where that is samples, and `asked` tells."""
    measured: int = Field(default=0, ge=0)
    """What the samples in the shards come to in that unit; whole samples, so as near to `target` as they get."""


class Flow(Record):
    """Conservation of one stage: inputs == outputs + rejected + filtered."""

    stage: str
    inputs: int = Field(ge=0)
    outputs: int = Field(ge=0)
    rejected: int = Field(ge=0)
    filtered: int = Field(default=0, ge=0)
    barred: int = Field(default=0, ge=0)
    """Of the filtered, those that a gate of the recipe shuts out."""
    kept: int = Field(default=0, ge=0)
    """Of the filtered, those that the mixture before this one holds already; the rest stayed in reserve."""

    @property
    def reserve(self) -> int:
        """Filtered because no quota called for them."""
        return self.filtered - self.barred - self.kept


class Origin(Record):
    """Whose work a source's samples are, as the samples themselves say; each list sorted."""

    licences: tuple[str, ...]
    annotators: tuple[str, ...]
    """Names of those who made the annotations."""
    generators: tuple[str, ...]
    """Names of those who made the conversations."""


class Change(Record):
    """One change of a finished mixture (`mixture build --amend`): what it was before, and what became of it."""

    recipe_sha256: Sha256
    """Of the mixture before."""
    root_sha256: Sha256
    """Likewise: names that mixture."""
    kept: int = Field(ge=0)
    """Samples whose bytes were taken over."""
    added: int = Field(ge=0)
    """Samples made anew; of a key that was there before if its candidate changed."""
    removed: int = Field(ge=0)
    """Samples whose bytes are gone."""
    moved: int = Field(default=0, ge=0)
    """Of the kept, those at another position."""
    reordered: tuple[Split, ...] = ()
    """Splits in a fresh order, because the old one would have been too far off the new shares."""
    shards_kept: int = Field(ge=0)
    """Tars that were taken over as they were."""
    shards_rewritten: int = Field(ge=0)
    shards_new: int = Field(ge=0)
    """Under a name that was not there before."""
    shards_gone: int = Field(ge=0)


class Written(Record):
    """What it took a chat model to write the talks of a build: of those in the shards, of reserves, and in vain."""

    model: str
    """As provenance names it."""
    asked: int = Field(ge=0)
    """Samples that it was asked about."""
    accepted: tuple[int, ...]
    """Talks that were accepted at the first try, at the second, ..."""
    faults: dict[str, int]
    """Replies that were refused, by the rule that they broke."""
    copies: int = Field(default=0, ge=0)
    """Talks that were left out as near-copies of others."""
    prompt_tokens: int = Field(ge=0)
    """Of all prompts, in the model's own tokens; kept replies that were paid for before are in it."""
    output_tokens: int = Field(ge=0)


class Account(Record):
    """What the shards cannot tell: what the recipe promised, and what happened on the way."""

    recipe: Name
    recipe_sha256: Sha256
    fps: Rational
    """Frames a second that the decoder was asked for; under sampling `uniform` films have a rate of their own."""
    sampling: Sampling = "fps"
    """How the times of frames were chosen."""
    shares: dict[Modality, Rational]
    """Percent of the train split, as the recipe asks."""
    unit: Unit = Unit.SAMPLES
    """What the shares are shares of."""
    repeated: int = Field(default=0, ge=0)
    """Samples in the shards that are of a later pass over their source; stages met each once, in its first."""
    tokens_per_frame: int = 16
    """Visual tokens that a frame is counted as."""
    tokenizer_sha256: Sha256 | Literal[""] = ""
    """Of the `tokenizer.json` beside the ledger by which LLM tokens were counted; empty where none was named."""
    asked: tuple[Asked, ...]
    flows: tuple[Flow, ...]
    rejected: dict[str, int]
    """Count by `stage/reason`."""
    gates: Gates = Gates()
    """What the recipe lets in."""
    exclusions: tuple[ExclusionList, ...] = ()
    """What else may not enter."""
    barred: tuple[Barred, ...] = ()
    """What all these shut out, what the heldout split shares, and duplicates."""
    settings: dict[str, Sha256] = Field(default_factory=dict)
    """Digests of what decides a sample's bytes, by the recipe's field; none in a ledger of an older build."""
    written: Written | None = None
    """None where no chat model was asked."""
    history: tuple[Change, ...] = ()
    """What the mixture was before, oldest first; none where it was made at once."""


class Ledger(Account):
    """What was asked, found, refused and replaced; recounted by the audit from the tars alone."""

    frames_for: tuple[Category, ...] = ()
    """Video samples of these categories carry their frames."""
    frames_codec: FramesCodec = "rawvideo"
    """How."""
    total: dict[str, Count]
    """By split."""
    by_modality: dict[str, Count]
    """By `split/modality`; likewise below."""
    by_source: dict[str, Count]
    by_category: dict[str, Count]
    by_licence: dict[str, Count]
    by_generator: dict[str, Count]
    """By `split/name` of the conversation's generator."""
    by_annotator: dict[str, Count] = Field(default_factory=dict)
    """By `split/name` of who made the annotations."""
    by_encoder: dict[str, Count] = Field(default_factory=dict)
    """By `split/encoder`: the samples that have clips; bytes are of all members of the encoder, column or not."""
    origins: dict[str, Origin]
    """By source, both splits together."""
    member_bytes: dict[str, int] = Field(default_factory=dict)
    """By suffix of the tars' members, columns included, both splits together."""
    encoders: tuple[EncoderProvenance, ...]
    """In the order in which a connector joins them."""
    storage_loss: dict[Name, StorageLoss] = Field(default_factory=dict)
    """By encoder, the mean over clips."""
    shards: tuple[ShardEntry, ...]
    columns: tuple[Column, ...] = ()
    root_sha256: Sha256
    """`digest` of the list of digests of shards, then of columns: one number that names the whole mixture."""

    @property
    def frames_suffix(self) -> Literal["npy", "mjpeg"]:
        """End of a frames member's name."""
        return FRAMES_SUFFIXES[self.frames_codec]

    @property
    def size_bytes(self) -> int:
        """Of all tars."""
        columns = sum(tar.size_bytes for column in self.columns for tar in column.shards)
        return columns + sum(shard.size_bytes for shard in self.shards)

    def prefix_bound(self, split: Split) -> Fraction:
        """Samples that a prefix of the split stays strictly within of each modality's share."""
        is_kept = bool(self.history) and split not in self.history[-1].reordered
        return KEPT_PREFIX_BOUND if is_kept else PREFIX_BOUND

    @property
    def in_shards(self) -> tuple[EncoderProvenance, ...]:
        """Encoders whose features lie in the samples' own tars."""
        apart = {column.encoder for column in self.columns}
        return tuple(encoder for encoder in self.encoders if encoder.name not in apart)

    @classmethod
    def read(cls, folder: Folder) -> Self:
        """The ledger of the mixture in `folder`. Raises OSError or ValidationError where there is none."""
        return cls.model_validate_json((folder / LEDGER).read_bytes())
