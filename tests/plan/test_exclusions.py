"""What an exclusion list names stays out, whatever way it names it; and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sifting import sift

from pipeline.plan.exclusions import RUN, Exclusions, normal, runs
from schemas.exclusions import Excluded, ExclusionList
from schemas.gates import LicenceGate
from schemas.mixture import MixtureSpec
from schemas.sample import (
    Caption,
    Category,
    Generator,
    MediaRef,
    Modality,
    QuestionAnswer,
    Sample,
    Split,
    TimedEvent,
)

LONG = "When the man in the red coat has left the room what does the dog do next"
"""17 words."""


def spec(**more) -> MixtureSpec:
    return MixtureSpec(total=1, shares={"text": 50, "video": 50}, **more)


def film(key: str, *annotations, path: str = "", sha256: str = "", **changes) -> Sample:
    medium = MediaRef(kind="video", path=path or f"{key}.mp4", sha256=sha256)
    return Sample(
        key=key,
        source="a",
        modality=Modality.VIDEO,
        category=Category.CAPTIONING,
        media=(medium,),
        annotations=annotations or (Caption(text=f"seen in {key}"),),
        licence="MIT",
        annotator=Generator(name="human"),
    ).model_copy(update=changes)


def asked(key: str, question: str, answer: str = "yes") -> Sample:
    return film(key, QuestionAnswer(question=question, answer=answer))


def listed(*records: dict, name: str = "bench") -> Exclusions:
    exclusions = Exclusions()
    assert exclusions.add(name, (Excluded(**record) for record in records)) == len(records)
    return exclusions


def kept(samples: list[Sample], exclusions: Exclusions) -> list[str]:
    entered, barred = sift(samples, spec(), exclusions)
    assert len(entered) + sum(row.samples for row in barred) == len(samples)
    return [sample.key for sample in entered]


@pytest.mark.parametrize(
    "record",
    [
        {"key": "k"},
        {"name": "k"},
        {"sha256": "AB" * 32},
        {"media": "vids/dQw4.x-9.mp4"},
        {"media": "dQw4.x-9.mp4"},
        {"media": "dQw4.x-9"},
        {"name": "dQw4.x-9"},
        {"question": "what is  THIS"},
        {"question": LONG},
    ],
)
def test_each_way_to_name_a_sample_bars_it_and_no_other(record):
    said = QuestionAnswer(question=f"{LONG}? A. run", answer="A")
    named = film(
        "k", QuestionAnswer(question="What is this?", answer="x"), said, path="vids/dQw4.x-9.mp4", sha256="ab" * 32
    )
    other = film("other", path="vids/dQw4.mp4", sha256="cd" * 32)
    assert kept([named, other], listed(record)) == ["other"]


@pytest.mark.parametrize(
    "record",
    [
        {"key": "other"},
        {"media": "k.mp"},
        {"media": "vids"},
        {"sha256": "0" * 64},
        {"question": "Is this a dog"},
        {"question": "What"},
        {"question": LONG},
    ],
)
def test_what_is_not_named_enters(record):
    almost = " ".join(LONG.split()[: RUN - 1])
    sample = film("k", QuestionAnswer(question="Is this a cat", answer=almost), path="vids/k.mp4", sha256="ab" * 32)
    assert kept([sample], listed(record)) == ["k"]


@pytest.mark.parametrize(
    "annotation",
    [
        QuestionAnswer(question=f"Say, {LONG.upper()}!!", answer="a"),
        QuestionAnswer(question="what is said?", answer=LONG),
        Caption(text="once " + " ".join(LONG.split()[-RUN:])),
        TimedEvent(start_ns=0, exclusive_end_ns=1, text=" ".join(LONG.split()[:RUN]) + ", it said"),
    ],
)
def test_thirteen_words_in_a_row_are_contamination_wherever_they_stand(annotation):
    assert kept([film("k", annotation)], listed({"question": LONG})) == []


def test_a_short_question_names_no_text_that_only_holds_it():
    short = " ".join(LONG.split()[: RUN - 1])
    assert kept([asked("k", short + " now"), asked("l", short)], listed({"question": short})) == ["k"]


words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2 * RUN)


@given(words.filter(bool), words.filter(bool))
def test_a_run_is_found_exactly_where_thirteen_words_agree(question, text):
    grams = {tuple(question[i : i + RUN]) for i in range(len(question) - RUN + 1)}
    overlaps = any(tuple(text[i : i + RUN]) in grams for i in range(len(text) - RUN + 1))
    sample = film("k", Caption(text=", ".join(text)))
    assert (kept([sample], listed({"question": " ".join(question)})) == []) == overlaps


@given(st.text(max_size=60))
def test_a_text_is_the_same_however_it_is_set(text):
    once = normal(text)
    assert normal(once) == once
    assert normal(f" ¿{text.upper()}\u2028?! ") == normal(text.upper())
    assert normal("ﬁne Straße, İ’s_x") == "fine strasse i̇ s x"
    assert list(runs(once)) == [
        " ".join(once.split()[i : i + RUN]) for i in range(max(0, len(once.split()) - RUN + 1))
    ]


def test_the_account_tells_list_and_reason_and_the_first_list_counts():
    exclusions = listed({"key": "a"}, {"key": "b", "reason": "its owner asked"}, {"key": "c"}, name="taken")
    exclusions.add("bench", [Excluded(name="c"), Excluded(name="d"), Excluded(media="b")])
    samples = [film(key) for key in "abcde"]
    _, barred = sift(samples, spec(), exclusions)
    rows = [(row.stratum, row.gate, row.value, row.samples) for row in barred]
    assert rows == [
        ("train/video/a", "excluded", "bench", 1),
        ("train/video/a", "excluded", "taken", 2),
        ("train/video/a", "excluded", "taken: its owner asked", 1),
    ]
    taken = ExclusionList(name="taken", sha256="0" * 64, records=3)
    assert [taken.has_barred(row.value) for row in barred] == [False, True, True]


def test_an_excluded_heldout_candidate_takes_nothing_from_train_and_an_excluded_first_nothing_from_its_equal():
    heldout = film("h", split=Split.HELDOUT, sha256="ab" * 32)
    train, equal = film("t", sha256="ab" * 32), film("u", Caption(text="seen in t"), sha256="ab" * 32)
    gates = spec(heldout_total=1, licences=LicenceGate(deny=["CC-BY-NC*"]))
    entered, _ = sift([heldout, train, equal], gates, listed({"key": "h"}, {"key": "t"}))
    assert [sample.key for sample in entered] == ["u"]


keys = st.lists(st.sampled_from("abcdef"), max_size=6)


@given(keys, keys)
def test_what_is_listed_decides_and_not_the_order_or_the_number_of_times(first, then):
    samples = [film(key) for key in "abcdef"]
    one = listed(*({"key": key} for key in [*first, *then]))
    other = listed(*({"name": key} for key in then))
    other.add("more", [Excluded(key=key) for key in first])
    assert kept(samples, one) == kept(samples, other) == [k for k in "abcdef" if k not in {*first, *then}]


def test_a_record_names_one_thing():
    for bad in (
        {},
        {"key": "a", "media": "b"},
        {"reason": "x"},
        {"key": "A"},
        {"sha256": "ab"},
        {"question": " ?! "},
    ):
        with pytest.raises(ValueError, match="Excluded"):
            Excluded(**bad)
