"""The pictures of scikit-image: each exists, and what is said of it can be counted."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.ingest.annotations import read_packaged
from pipeline.ingest.photos import ANNOTATIONS, Photos
from pipeline.ingest.source import Entry
from schemas.base import KEY_PATTERN
from schemas.rejection import Reason, Rejection
from schemas.sample import Caption, Category, Modality, Sample
from schemas.sources import PhotosSource

PHOTOS = Photos(PhotosSource(kind="photos"))
NOWHERE = Path("not-written-to")
ENTRIES = list(PHOTOS.entries())
PICTURES = read_packaged(ANNOTATIONS)["pictures"]


def samples() -> list[Sample]:
    made = [PHOTOS.sample(entry, NOWHERE) for entry in ENTRIES]
    assert not [outcome for outcome in made if isinstance(outcome, Rejection)]
    return made


def test_there_are_samples_of_four_categories():
    categories = [sample.category for sample in samples()]
    assert len(categories) >= 90
    assert set(categories) == {
        Category.CAPTIONING,
        Category.CONVERSATIONAL,
        Category.REASONING,
        Category.TEXT_RECOGNITION,
    }


def test_every_picture_exists_and_opens_without_a_network():
    root = PHOTOS.media_root(NOWHERE)
    for path in {sample.media[0].path for sample in samples()}:
        with Image.open(root / path) as image:
            image.load()
            assert min(image.size) > 0, path


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture["slug"])
def test_the_colour_attribute_agrees_with_the_pixels(picture):
    with Image.open(PHOTOS.media_root(NOWHERE) / picture["file"]) as image:
        channels = np.asarray(image.convert("RGB")).astype(int)
    spread = int((channels.max(axis=-1) - channels.min(axis=-1)).max())
    assert picture["attributes"]["colour"] == (spread > 16)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture["slug"])
def test_a_picture_has_words_to_read_exactly_where_it_is_asked_about_them(picture):
    categories = [sample["category"] for sample in picture["samples"]]
    assert picture["attributes"]["text"] == ("text_recognition" in categories)


def test_the_chessboard_has_the_squares_that_are_claimed():
    with Image.open(PHOTOS.media_root(NOWHERE) / "chessboard_GRAY.png") as image:
        squares = np.asarray(image.convert("L"))[12::25, 12::25] > 127
    assert squares.shape == (8, 8)
    assert squares.sum() == 32
    assert (squares[0, 0], squares[0, 7], squares[7, 7]) == (True, False, True)


def test_every_picture_has_a_caption_of_its_own():
    captions = [a.text for sample in samples() for a in sample.annotations if isinstance(a, Caption)]
    assert len(captions) == len(set(captions)) == len(PICTURES)


def test_keys_are_unique_and_fit_a_webdataset():
    keys = [entry.key for entry in ENTRIES]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(KEY_PATTERN, key) for key in keys)


def test_entries_are_the_same_each_time():
    assert list(PHOTOS.entries()) == ENTRIES


def test_every_picture_says_where_its_licence_was_read():
    assert all(picture["licence"] and picture["licence_note"] for picture in PICTURES)


def test_samples_are_single_pictures_of_their_source():
    for sample in samples():
        assert (sample.source, sample.modality, len(sample.media)) == ("photos", Modality.IMAGE, 1)


@pytest.mark.parametrize("payload", [None, [], {"file": "coins.png"}, ENTRIES[0].payload | {"file": 7}])
def test_a_bad_entry_is_a_rejection(payload):
    outcome = PHOTOS.sample(Entry("photos-x", payload, "photos.yaml: x"), NOWHERE)
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.where, outcome.source) == (
        Reason.BAD_ANNOTATION,
        "photos.yaml: x",
        "photos",
    )
