"""`Manifest`: the last file written into an artefact; its presence is what makes the artefact whole."""

from pydantic import Field

from schemas.base import Record, Sha256


class Part(Record):
    """One committed file of a per-record artefact."""

    name: str
    inputs: int = Field(ge=0)
    outputs: int = Field(ge=0)
    rejected: int = Field(ge=0)


class Manifest(Record):
    """What an artefact is, what made it, and that nothing was lost on the way."""

    stage: str
    version: int = Field(ge=1)
    fingerprint: Sha256
    config: str
    """Canonical JSON of the stage's config."""
    inputs: tuple[Sha256, ...] = ()
    """Fingerprints of the artefacts it was made from."""
    parts: tuple[Part, ...] = ()
    summary: dict[str, int] = Field(default_factory=dict)
    """Counts a whole-dataset step wants to keep."""
