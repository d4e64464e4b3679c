"""`Shapes`: rendered films as a source."""

from collections.abc import Iterator
from importlib.metadata import version

from pipeline.ingest.shapes.questions import ask, caption, events
from pipeline.ingest.shapes.scene import Film, draw_film, stream
from pipeline.ingest.source import Entry, Source
from pipeline.storage.files import published
from pipeline.storage.places import Place
from schemas.base import canonical_json, digest
from schemas.sample import Annotation, Category, Generator, MediaRef, Modality, Sample, Split
from schemas.sources import ShapesSource

VERSION = 1
"""Raise it when a scene, a pixel or a question would come out otherwise."""

CAPTION_SHARE = 0.25
"""Of the train films, those that are described rather than asked about."""


class Shapes(Source):
    """`videos` films to train on and `heldout` others, one sample each; film i depends on (seed, split, i)."""

    def __init__(self, spec: ShapesSource) -> None:
        self.spec = spec

    def fingerprint(self) -> str:
        """Of renderer, seed and counts; PyAV's version is in it, as its libx264 decides the bytes."""
        return canonical_json({"shapes": VERSION, "av": version("av"), "spec": self.spec.model_dump(mode="json")})

    def media_root(self, folder: Place) -> Place:
        """`folder` itself: films are rendered into it."""
        return folder

    def entries(self) -> Iterator[Entry]:
        """Train films, then held-out films. A key says which renderer and seed made the film."""
        tag = digest([VERSION, self.spec.seed])[:8]
        for split, count in ((Split.TRAIN, self.spec.videos), (Split.HELDOUT, self.spec.heldout)):
            for index in range(count):
                key = f"{self.spec.name}-{split}-{index:06}-{tag}"
                yield Entry(key, {"split": str(split), "index": index}, where=f"film {index} of {split}")

    def sample(self, entry: Entry, folder: Place) -> Sample:
        """The film as a sample; rendered to `folder/<key>.mp4` unless it is there."""
        split, index = Split(entry.payload["split"]), int(entry.payload["index"])
        film = draw_film(stream(self.spec.seed, split, index, "film"))
        path = folder / f"{entry.key}.mp4"
        if not path.exists():
            _render_to(path, film)
        category, annotations = self._annotate(film, split, index)
        return Sample(
            key=entry.key,
            source=self.spec.name,
            modality=Modality.VIDEO,
            category=category,
            split=split,
            media=(MediaRef(kind="video", path=path.name),),
            annotations=annotations,
            licence="CC0-1.0",
            annotator=Generator(name="renderer", revision=f"shapes-{VERSION}"),
        )

    def _annotate(self, film: Film, split: Split, index: int) -> tuple[Category, tuple[Annotation, ...]]:
        """Either a description or questions, never both: a caption before a question would answer it."""
        rng = stream(self.spec.seed, split, index, "annotations")
        if rng.random() < CAPTION_SHARE and split is Split.TRAIN:
            return Category.CAPTIONING, (caption(film), *events(film))
        asked = (Category.TEMPORAL_PERCEPTION, Category.REASONING) if film.in_turn else (Category.CONVERSATIONAL,)
        return rng.choice(asked), ask(film, rng)


def _render_to(path: Place, film: Film) -> None:
    """Publishes whole files only: workers that race write equal bytes under names of their own."""
    from pipeline.ingest.shapes.render import render

    with published(path) as attempt:
        attempt.write_bytes(render(film))
