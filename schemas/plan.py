"""`Stratum` and `Quota`: what is counted as one, and how many are wanted of it."""

from typing import Literal

from pydantic import Field

from schemas.base import Name, Record
from schemas.sample import Modality, Split


class Stratum(Record):
    """The finest group that has a quota of its own."""

    split: Split
    modality: Modality
    source: Name

    @property
    def label(self) -> str:
        """For people and file names: `train/video/shapes`."""
        return f"{self.split}/{self.modality}/{self.source}"


class Quota(Record):
    """Samples wanted of one stratum, and candidates found."""

    stratum: Stratum
    samples: int = Field(ge=0)
    candidates: int = Field(ge=0)
    """Those that may enter."""
    barred: int = Field(default=0, ge=0)
    """More of them, which a gate of the recipe shuts out."""

    @property
    def bars(self) -> str:
        """How many are barred, in words; nothing where none is."""
        return f" ({self.barred} more are barred by the recipe's gates)" if self.barred else ""


class Barred(Record):
    """Candidates of one stratum that a gate of the recipe shuts out for one reason."""

    stratum: str = Field(pattern=r"^(train|heldout)/(text|image|multi_image|video)/[a-z0-9][a-z0-9_-]{0,31}$")
    """`Stratum.label`."""
    gate: Literal["licence", "annotator"]
    value: str
    """The licence or the annotator, as the samples have it."""
    samples: int = Field(ge=1)
