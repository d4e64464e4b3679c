"""`Quota` and the plan's rows: how many of each stratum, and who, in which order."""

from pydantic import Field

from schemas.base import Key, Name, Record
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


class Placed(Record):
    """A chosen sample and its place in the order of its split."""

    position: int = Field(ge=0)
    key: Key
    stratum: Stratum
