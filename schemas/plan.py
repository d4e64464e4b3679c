"""`Stratum` and `Quota`: what is counted as one, and how many are wanted of it."""

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
