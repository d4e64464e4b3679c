"""How much there is to talk about, decode, encode and keep: counted from samples, or stated without them.

Times are nanoseconds. A statement is a YAML file: every number in it says what it rests on, for it
stands in for data that nobody has counted.
"""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Name, Nanoseconds, Rational, Record
from schemas.sample import Modality

Count = Annotated[int, Field(ge=0)]
Share = Annotated[Rational, Field(ge=0, le=1)]
Seconds = Annotated[Rational, Field(gt=0, le=10_000_000)]

PartName = Annotated[str, Field(pattern=r"^[a-z0-9_-]+(/[a-z0-9_-]+)*$", max_length=120)]


class Work(Record):
    """Totals of some samples."""

    samples: Count = Field(default=0, description="All of them, texts too.")
    clips: Count = Field(default=0, description="Of films.")
    images: Count = Field(default=0, description="Of image and multi-image samples.")
    film_ns: Count = Field(default=0, description="Of the spans that clips are taken from.")
    clips_with_frames: Count = Field(default=0, description="Clips whose frames go into the shards.")
    talks: Count = Field(default=0, description="Talks that a language model writes; a template's cost nothing.")
    prompt_tokens: Count = Field(default=0, description="Of these talks, read by the model.")
    reply_tokens: Count = Field(default=0, description="Of these talks, written by the model.")


class PartWork(Work):
    """Totals of one part: a stratum that was counted, or a part that was stated."""

    part: PartName = Field(description="Such as `train/video/shapes`, or `sft/video`.")


class Workload(Record):
    """What a mixture's samples come to, part by part."""

    origin: Literal["counted", "stated"] = Field(
        description="`counted` from samples at hand; `stated` by somebody who has not counted them."
    )
    parts: tuple[PartWork, ...] = Field(description="Each sample is in one of them.")

    @property
    def total(self) -> Work:
        """The sum over the parts."""
        return Work.model_validate(
            {name: sum(getattr(part, name) for part in self.parts) for name in Work.model_fields}
        )


BASIS = Field(min_length=1, max_length=300, description="What the number rests on: a source, or `our assumption`.")


class StatedCount(Record):
    """A whole number."""

    value: Count = Field(description="The number.")
    basis: str = BASIS


class StatedMean(Record):
    """A mean over the samples of a part."""

    value: Annotated[Rational, Field(ge=0)] = Field(description="The mean.")
    basis: str = BASIS


class StatedShare(Record):
    """A share of the samples of a part."""

    value: Share = Field(description="From 0 to 1.")
    basis: str = BASIS


class StatedFilms(Record):
    """How long the films are. A mean hides what `max_clips` cuts off; a histogram does not."""

    mean_s: Seconds | None = Field(
        default=None, description="Seconds of every film, as if all were as long; or give `histogram`."
    )
    histogram: dict[Seconds, Share] = Field(
        default_factory=dict, description="Seconds of a film: share of the films; the shares sum to exactly 1."
    )
    basis: str = BASIS

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.mean_s is None) == (not self.histogram):
            raise ValueError("give either mean_s or histogram: the one is read as if all films were as long")
        if self.histogram and (total := sum(self.histogram.values(), Fraction(0))) != 1:
            shares = ", ".join(f"{float(s):g} s {float(share):g}" for s, share in self.histogram.items())
            raise ValueError(f"the histogram's shares sum to {float(total):g}, must be exactly 1: {shares}")
        return self

    @property
    def bins(self) -> dict[Nanoseconds, Fraction]:
        """Nanoseconds of a film, and the share of films that are as long."""
        seconds = self.histogram if self.mean_s is None else {self.mean_s: Fraction(1)}
        return {int(each * 10**9): share for each, share in seconds.items()}


class StatedTalks(Record):
    """Talks that a language model writes, one request each."""

    share: StatedShare = Field(description="Of the part's samples whose talk is written by a model.")
    prompt_tokens: StatedMean = Field(description="Tokens of one request: instructions and annotations.")
    reply_tokens: StatedMean = Field(description="Tokens of one talk as the model writes it.")


class StatedPart(Record):
    """A part of a mixture in numbers."""

    part: PartName = Field(description="Such as `sft/video`.")
    modality: Modality = Field(description="Of all its samples.")
    samples: StatedCount = Field(description="How many.")
    films: StatedFilms | None = Field(default=None, description="How long they are; of video parts.")
    max_clips: StatedCount | None = Field(
        default=None, description="Most clips of a film of this part; without it the recipe's `decode.max_clips`."
    )
    images: StatedMean | None = Field(default=None, description="Images a sample; of multi-image parts.")
    frames: StatedShare | None = Field(
        default=None, description="Share of the clips whose frames go into the shards; of video parts."
    )
    talks: StatedTalks | None = Field(default=None, description="Written by a model; without it none is.")

    @model_validator(mode="after")
    def _check_modality(self) -> Self:
        film, many = self.modality is Modality.VIDEO, self.modality is Modality.MULTI_IMAGE
        for needed, name in ((film, "films"), (many, "images")):
            if needed != (getattr(self, name) is not None):
                verb = "need" if needed else "have no"
                raise ValueError(f"part {self.part}: {self.modality} parts {verb} `{name}`")
        if not film and (self.max_clips or self.frames):
            raise ValueError(f"part {self.part}: only a video part has `max_clips` and `frames`")
        if self.max_clips and not self.max_clips.value:
            raise ValueError(f"part {self.part}: max_clips is 0; a film has one clip at least")
        if self.images and self.images.value < 2:
            raise ValueError(
                f"part {self.part}: a multi_image sample has 2 images or more, got {self.images.value}"
            )
        return self


class StatedWorkload(Record):
    """A mixture in numbers, where its samples are not at hand."""

    name: Name = Field(description="Of the workload.")
    note: str = Field(default="", max_length=1000, description="Printed above the plan.")
    parts: tuple[StatedPart, ...] = Field(min_length=1, description="Each sample is in one of them.")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [part.part for part in self.parts]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two parts are named {', '.join(twice)}: give each a name of its own")
        return self
