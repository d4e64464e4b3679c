"""`Stratum` and `Quota`: what is counted as one, and how many are wanted of it."""

from typing import Literal, Self

from pydantic import Field

from schemas.base import Name, Record
from schemas.sample import Category, Modality, Split
from schemas.units import Unit

STRATUM_PATTERN = (
    r"^(train|heldout)/(text|image|multi_image|video)/[a-z0-9][a-z0-9_-]{0,31}"
    r"(/(" + "|".join(Category) + r"))?$"
)
"""Of `Stratum.label`."""


class Stratum(Record):
    """The finest group that has a quota of its own."""

    split: Split
    modality: Modality
    source: Name
    category: Category | None = None
    """Only where the recipe gives the categories of this source shares of their own."""

    def of_category(self, category: str) -> Self:
        """The part of it that is of one category."""
        return self.model_copy(update={"category": Category(category)})

    @classmethod
    def labelled(cls, label: str) -> Self:
        """The stratum of a label."""
        names = ("split", "modality", "source", "category")
        return cls.model_validate(dict(zip(names, label.split("/"), strict=False)))

    @property
    def label(self) -> str:
        """For people and file names: `train/video/shapes`, or `train/video/shapes/captioning`."""
        whole = f"{self.split}/{self.modality}/{self.source}"
        return f"{whole}/{self.category}" if self.category else whole


class Quota(Record):
    """What is wanted of one stratum, and candidates found."""

    stratum: Stratum
    samples: int = Field(default=0, ge=0)
    """Wanted, where samples are what is shared."""
    target: int = Field(default=0, ge=0)
    """Wanted in another unit (seconds in ns): then as many samples as reach it, and `samples` is 0."""
    unit: Unit = Unit.SAMPLES
    candidates: int = Field(ge=0)
    """Those that may enter."""
    barred: int = Field(default=0, ge=0)
    """More of them, which a gate of the recipe shuts out."""

    @property
    def bars(self) -> str:
        """How many are barred, in words; nothing where none is."""
        return f" ({self.barred} more are barred by the recipe's gates)" if self.barred else ""


GateName = Literal["licence", "annotator", "excluded", "heldout", "duplicate"]
"""Why a candidate may not enter; the gates are asked in this order, and the first that bars it is told."""


class Barred(Record):
    """Candidates of one stratum that are shut out for one reason."""

    stratum: str = Field(pattern=STRATUM_PATTERN)
    """`Stratum.label`."""
    gate: GateName
    value: str
    """The licence or the annotator as the samples have it; the exclusion list (`LIST`, or `LIST: REASON`); for
    `heldout` and `duplicate` the source of the candidate that it is shared with, or equal to."""
    samples: int = Field(ge=1)
