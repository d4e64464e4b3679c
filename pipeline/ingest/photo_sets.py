"""Sets of two to four scikit-image pictures, with questions whose answers follow from each picture's attributes.

Which pictures form a set, and in which order, is decided by hashes: asking for more sets keeps the earlier ones.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from pydantic import ValidationError

from pipeline.ingest.annotations import Written, fingerprint_of, read_packaged, refuse
from pipeline.ingest.photos import ANNOTATIONS, picture_folder
from pipeline.ingest.source import Entry, Source
from pipeline.storage.places import Place
from schemas.base import Record, sha256_text
from schemas.rejection import Rejection
from schemas.sample import Category, MediaRef, Modality, Sample
from schemas.sources import PhotoSetsSource

ORDINALS = ("first", "second", "third", "fourth")
NUMBERS = ("None", "One", "Two", "Three", "Four")
PREDICATES = {
    "colour": ("is in colour", "are in colour"),
    "person": ("shows a person", "show a person"),
    "animal": ("shows an animal", "show an animal"),
    "text": ("has readable writing on it", "have readable writing on them"),
    "drawn": ("was drawn or made by computer", "were drawn or made by computer"),
}
"""What an attribute says of one picture, and of several."""
CATEGORIES = (Category.CONVERSATIONAL, Category.REASONING, Category.CAPTIONING)
DRAWS_PER_SET = 50
"""Draws tried for each set asked before the pictures count as exhausted."""


class Picture(Record):
    """What a set needs to know of a picture."""

    slug: str
    file: str
    licence: str
    subject: str
    """A noun phrase with its article: `a tabby cat`."""
    attributes: dict[str, bool]
    """One truth for each of `PREDICATES`."""


class WrittenSet(Written):
    """One sample of several pictures, in this order."""

    files: tuple[str, ...]


def draw_sets(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, ...]]:
    """Endless draws of 2 to 4 pictures of different subjects; a draw may come again."""
    draw = 0
    while True:
        size = 2 + _hash(f"{draw}/size") % 3
        ranked = sorted(pictures, key=lambda picture: sha256_text(f"{draw}/{picture.slug}"))
        by_subject: dict[str, Picture] = {}
        for picture in ranked:
            by_subject.setdefault(picture.subject, picture)
        yield tuple(islice(by_subject.values(), size))
        draw += 1


def distinct_sets(pictures: Sequence[Picture], count: int) -> list[tuple[Picture, ...]]:
    """The first `count` sets that differ in pictures or order. Raises ValueError if there are not so many."""
    found: dict[tuple[str, ...], tuple[Picture, ...]] = {}
    for chosen in islice(draw_sets(pictures), count * DRAWS_PER_SET):
        found.setdefault(tuple(picture.slug for picture in chosen), chosen)
        if len(found) == count:
            return list(found.values())
    raise ValueError(f"{len(pictures)} pictures make {len(found)} sets, not {count}: ask for fewer in `sets`")


def annotate(pictures: Sequence[Picture], category: Category) -> list[dict[str, str]]:
    """The annotations of a set, as an annotation file would have them."""
    seed = "/".join(picture.slug for picture in pictures)
    if category is Category.CAPTIONING:
        return [{"caption": _describe(pictures)}]
    if category is Category.CONVERSATIONAL:
        counted, listed, *_ = sorted(PREDICATES, key=lambda attribute: sha256_text(f"{seed}/{attribute}"))
        return [_which_shows(pictures, seed), _how_many(pictures, counted), _which_of(pictures, listed)]
    return [_before(pictures, seed), *_only_one(pictures, seed), _compare(pictures)]


class PhotoSets(Source):
    """Sets of scikit-image pictures; their attributes come from `data/photos.yaml`."""

    def __init__(self, spec: PhotoSetsSource) -> None:
        self._spec = spec

    def fingerprint(self) -> str:
        """Changes with scikit-image's version and with the annotations."""
        return fingerprint_of("scikit-image", ANNOTATIONS)

    def media_root(self, folder: Place) -> Place:
        """The package's own folder of pictures; `folder` is not used."""
        return picture_folder()

    def entries(self) -> Iterator[Entry]:
        """Exactly `spec.sets` entries; the categories take turns."""
        written = read_packaged(ANNOTATIONS)
        pictures = [
            Picture.model_validate({name: picture[name] for name in Picture.model_fields})
            for picture in written["pictures"]
        ]
        # The words are a template's; what they claim is as good as the attributes' annotator.
        annotator = {"name": "template", "model": written["annotator"]["name"]}
        for index, chosen in enumerate(distinct_sets(pictures, self._spec.sets)):
            category = CATEGORIES[index % len(CATEGORIES)]
            payload: dict[str, Any] = {
                "category": category.value,
                "licence": " AND ".join(sorted({picture.licence for picture in chosen})),
                "annotator": annotator,
                "annotations": annotate(chosen, category),
                "files": [picture.file for picture in chosen],
            }
            where = f"{ANNOTATIONS}: {', '.join(picture.slug for picture in chosen)}"
            yield Entry(f"{self._spec.name}-{index:04d}", payload, where)

    def sample(self, entry: Entry, folder: Place) -> Sample | Rejection:
        """The entry as a sample; nothing is written to `folder`."""
        try:
            written = WrittenSet.model_validate(entry.payload)
            media = [MediaRef(kind="image", path=file) for file in written.files]
            return written.sample(entry, self._spec.name, Modality.MULTI_IMAGE, *media)
        except ValidationError as error:
            return refuse(entry, self._spec.name, error)


def _describe(pictures: Sequence[Picture]) -> str:
    clauses = [f"the {ORDINALS[i]} picture shows {picture.subject}" for i, picture in enumerate(pictures)]
    text = f"{', '.join(clauses[:-1])} and {clauses[-1]}."
    return text[0].upper() + text[1:]


def _which_shows(pictures: Sequence[Picture], seed: str) -> dict[str, str]:
    place = _hash(f"{seed}/which") % len(pictures)
    return _ask(f"Which picture shows {pictures[place].subject}?", f"The {ORDINALS[place]} picture.", "which")


def _how_many(pictures: Sequence[Picture], attribute: str) -> dict[str, str]:
    places = _places(pictures, attribute)
    answer = f"{NUMBERS[len(places)]}: {_name(places)}." if places else "None."
    return _ask(f"How many of the pictures {PREDICATES[attribute][1]}?", answer, "count")


def _which_of(pictures: Sequence[Picture], attribute: str) -> dict[str, str]:
    places = _places(pictures, attribute)
    answer = _name(places).capitalize() + "." if places else "None of them."
    return _ask(f"Which of the pictures {PREDICATES[attribute][1]}?", answer, attribute)


def _before(pictures: Sequence[Picture], seed: str) -> dict[str, str]:
    place = 1 + _hash(f"{seed}/before") % (len(pictures) - 1)
    before = pictures[place - 1].subject
    question = f"What is shown in the picture right before the one of {pictures[place].subject}?"
    return _ask(question, f"{before[0].upper()}{before[1:]}, in the {ORDINALS[place - 1]} picture.", "order")


def _only_one(pictures: Sequence[Picture], seed: str) -> list[dict[str, str]]:
    """A question for an attribute that a single picture has, or none where there is no such attribute."""
    single = [attribute for attribute in PREDICATES if len(_places(pictures, attribute)) == 1]
    if not single:
        return []
    attribute = single[_hash(f"{seed}/only") % len(single)]
    (place,) = _places(pictures, attribute)
    question = f"Only one of the pictures {PREDICATES[attribute][0]}. Which one, and what does it show?"
    return [_ask(question, f"The {ORDINALS[place]} picture. It shows {pictures[place].subject}.", "odd one out")]


def _compare(pictures: Sequence[Picture]) -> dict[str, str]:
    said = []
    for attribute, (one, several) in PREDICATES.items():
        first, second = (picture.attributes[attribute] for picture in pictures[:2])
        if first and second:
            said.append(f"Both {several}.")
        elif first or second:
            said.append(f"Only the {ORDINALS[0 if first else 1]} picture {one}.")
        elif attribute == "colour":
            said.append("Both are grayscale.")
    return _ask("How do the first and the second picture compare?", " ".join(said), "comparison")


def _ask(question: str, answer: str, topic: str) -> dict[str, str]:
    return {"question": question, "answer": answer, "topic": topic, "evidence": "frame"}


def _places(pictures: Sequence[Picture], attribute: str) -> list[int]:
    return [place for place, picture in enumerate(pictures) if picture.attributes[attribute]]


def _name(places: Sequence[int]) -> str:
    words = [ORDINALS[place] for place in places]
    if len(words) == 1:
        return f"the {words[0]} picture"
    return f"the {', '.join(words[:-1])} and {words[-1]} pictures"


def _hash(text: str) -> int:
    return int(sha256_text(text)[:16], 16)
