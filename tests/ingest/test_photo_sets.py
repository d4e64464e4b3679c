"""Sets of pictures: an oracle answers every question again from the attributes alone."""

import re
from pathlib import Path

import pytest

from pipeline.ingest.annotations import read_packaged
from pipeline.ingest.photo_sets import PhotoSets, Picture, distinct_sets
from pipeline.ingest.source import Entry
from schemas.base import KEY_PATTERN
from schemas.rejection import Rejection
from schemas.sample import Caption, Category, Modality, QuestionAnswer, Sample
from schemas.sources import PhotoSetsSource

NOWHERE = Path("not-written-to")
PICTURES = {picture["file"]: picture for picture in read_packaged("photos.yaml")["pictures"]}
PLACES = {"first": 0, "second": 1, "third": 2, "fourth": 3}
CLAIMS = {
    "in colour": "colour",
    "a person": "person",
    "an animal": "animal",
    "readable writing": "text",
    "drawn or made by computer": "drawn",
}


def make(sets: int) -> list[Sample]:
    source = PhotoSets(PhotoSetsSource(kind="photo_sets", sets=sets))
    made = [source.sample(entry, NOWHERE) for entry in source.entries()]
    assert not [outcome for outcome in made if isinstance(outcome, Rejection)]
    return made


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return make(300)


def named(text: str) -> list[int]:
    return [PLACES[word] for word in re.findall(r"\b(first|second|third|fourth)\b", text)]


def claimed(text: str) -> str:
    (attribute,) = [attribute for claim, attribute in CLAIMS.items() if claim in text]
    return attribute


def check(question: QuestionAnswer, shown: list[dict]) -> None:
    """Answers `question` from the attributes of the pictures `shown`, by other means than the source's."""
    subjects = [picture["subject"] for picture in shown]
    match question.topic:
        case "which":
            subject = question.question.removeprefix("Which picture shows ").removesuffix("?")
            assert named(question.answer) == [subjects.index(subject)]
        case "count":
            having = [i for i, p in enumerate(shown) if p["attributes"][claimed(question.question)]]
            number = ["none", "one", "two", "three", "four"].index(re.split(r"[.:]", question.answer.lower())[0])
            assert (number, named(question.answer)) == (len(having), having)
        case "order":
            after = question.question.removeprefix("What is shown in the picture right before the one of ")
            place = subjects.index(after.removesuffix("?")) - 1
            assert question.answer.lower().startswith(subjects[place].lower())
            assert named(question.answer.removeprefix(subjects[place])) == [place]
        case "odd one out":
            (place,) = [i for i, p in enumerate(shown) if p["attributes"][claimed(question.question)]]
            assert named(question.answer) == [place]
            assert question.answer.endswith(f"It shows {subjects[place]}.")
        case "comparison":
            said: dict[str, list[int]] = {attribute: [] for attribute in CLAIMS.values()}
            for sentence in question.answer.removesuffix(".").split(". "):
                if sentence != "Both are grayscale":
                    said[claimed(sentence)] = [0, 1] if sentence.startswith("Both") else named(sentence)
            for attribute, places in said.items():
                assert places == [i for i, p in enumerate(shown[:2]) if p["attributes"][attribute]]
        case attribute:
            having = [i for i, p in enumerate(shown) if p["attributes"][attribute]]
            assert (named(question.answer), attribute) == (having, claimed(question.question))


def test_every_answer_follows_from_the_attributes(samples):
    topics = set()
    for sample in samples:
        shown = [PICTURES[medium.path] for medium in sample.media]
        for annotation in sample.annotations:
            if isinstance(annotation, QuestionAnswer):
                topics.add(annotation.topic)
                check(annotation, shown)
    assert topics == {"which", "count", "order", "odd one out", "comparison", *CLAIMS.values()}


def test_a_caption_tells_the_pictures_in_their_order(samples):
    captions = 0
    for sample in samples:
        for annotation in sample.annotations:
            if isinstance(annotation, Caption):
                captions += 1
                told = re.findall(r"(\w+) picture shows (.+?)(?=, the | and the \w+ picture |\.$)", annotation.text)
                expected = [PICTURES[medium.path]["subject"] for medium in sample.media]
                assert [subject for _, subject in told] == expected
                assert [PLACES[ordinal] for ordinal, _ in told] == list(range(len(expected)))
    assert captions == 100


@pytest.mark.parametrize("sets", [1, 7, 120])
def test_exactly_as_many_sets_are_made_as_asked(sets):
    assert len(make(sets)) == sets


def test_sets_have_two_to_four_pictures_of_different_subjects_and_never_repeat(samples):
    drawn = [tuple(medium.path for medium in sample.media) for sample in samples]
    assert len(set(drawn)) == len(drawn)
    assert {len(paths) for paths in drawn} == {2, 3, 4}
    for paths in drawn:
        assert len({PICTURES[path]["subject"] for path in paths}) == len(paths)


def test_asking_for_more_sets_keeps_the_earlier_ones(samples):
    assert make(40) == samples[:40]


def test_the_categories_take_turns(samples):
    assert {sample.category for sample in samples[:3]} == {
        Category.CONVERSATIONAL,
        Category.REASONING,
        Category.CAPTIONING,
    }
    assert all(sample.modality is Modality.MULTI_IMAGE for sample in samples)


def test_a_set_carries_the_licences_of_all_its_pictures(samples):
    for sample in samples:
        expected = {PICTURES[medium.path]["licence"] for medium in sample.media}
        assert set(sample.licence.split(" AND ")) == expected


def test_keys_are_unique_and_fit_a_webdataset(samples):
    keys = [sample.key for sample in samples]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(KEY_PATTERN, key) for key in keys)


def test_the_largest_number_of_sets_that_a_recipe_may_ask_for_can_be_made():
    assert len(list(PhotoSets(PhotoSetsSource(kind="photo_sets", sets=5_000)).entries())) == 5_000


def test_too_few_pictures_for_the_sets_asked_are_an_error_with_its_mend():
    two = [Picture(slug=s, file=s, licence="CC0-1.0", subject=s, attributes={}) for s in ("a", "b")]
    assert len(distinct_sets(two, 2)) == 2  # a b, b a
    with pytest.raises(ValueError, match="2 pictures make 2 sets, not 3: ask for fewer"):
        distinct_sets(two, 3)


def test_a_bad_entry_is_a_rejection():
    source = PhotoSets(PhotoSetsSource(kind="photo_sets", sets=1))
    (entry,) = source.entries()
    for change in ({"files": ["coins.png"]}, {"files": 7}, {"annotations": [{}]}):
        assert isinstance(source.sample(Entry(entry.key, entry.payload | change), NOWHERE), Rejection)
    assert isinstance(source.sample(Entry(entry.key, None), NOWHERE), Rejection)
