"""From a recipe's source to the class that reads it. Each class is imported only when it is named."""

from typing import assert_never

from pipeline.ingest.source import Source
from schemas.sources import (
    ClipsSource,
    DocsSource,
    LlavaSource,
    PhotoSetsSource,
    PhotosSource,
    ShapesSource,
    SourceSpec,
)


def build_source(spec: SourceSpec) -> Source:
    """The source that `spec` describes, with no file read yet."""
    match spec:
        case ClipsSource():
            from pipeline.ingest.clips import Clips

            return Clips(spec)
        case PhotosSource():
            from pipeline.ingest.photos import Photos

            return Photos(spec)
        case PhotoSetsSource():
            from pipeline.ingest.photo_sets import PhotoSets

            return PhotoSets(spec)
        case DocsSource():
            from pipeline.ingest.docs import Docs

            return Docs(spec)
        case ShapesSource():
            from pipeline.ingest.shapes.source import Shapes

            return Shapes(spec)
        case LlavaSource():
            from pipeline.ingest.llava.source import Llava

            return Llava(spec)
        case _:
            assert_never(spec)
