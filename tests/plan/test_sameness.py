"""Splits share no medium and no text, and of equal candidates one enters, whatever they are (laws 5, 6)."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sifting import sift

from pipeline.plan.choose import choose, ranked
from schemas.gates import LicenceGate
from schemas.mixture import MixtureSpec
from schemas.plan import Quota
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, QuestionAnswer, Sample, Split

TRAIN, HELDOUT = Split.TRAIN, Split.HELDOUT


def spec(heldout_total: int = 1, **more) -> MixtureSpec:
    return MixtureSpec(total=1, shares={"text": 50, "multi_image": 50}, heldout_total=heldout_total, **more)


@dataclass(frozen=True)
class Draft:
    """What makes one sample the same as another."""

    source: str = "a"
    split: Split = TRAIN
    media: tuple[int, ...] = ()
    words: str = "one"
    is_free: bool = True


def made(index: int, draft: Draft, **changes) -> Sample:
    modality = [Modality.TEXT, Modality.IMAGE, Modality.MULTI_IMAGE][min(2, len(draft.media))]
    sample = Sample(
        key=f"{draft.source}-{index}",
        source=draft.source,
        modality=modality,
        category=Category.CAPTIONING,
        split=draft.split,
        media=tuple(MediaRef(kind="image", path=f"{index}.png", sha256=f"{m:064x}") for m in draft.media),
        annotations=(Caption(text=draft.words),),
        licence="MIT" if draft.is_free else "CC-BY-NC-4.0",
        annotator=Generator(name="human"),
    )
    return sample.model_copy(update=changes)


def samples_of(drafts: list[Draft]) -> list[Sample]:
    return [made(index, draft) for index, draft in enumerate(drafts)]


def told(barred) -> list[tuple[object, ...]]:
    return [(row.stratum, row.gate, row.value, row.samples) for row in barred]


SOURCES = ["a", "b", "c"]
drafts = st.builds(
    Draft,
    source=st.sampled_from(SOURCES),
    split=st.sampled_from(Split),
    media=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    words=st.sampled_from(["one", "two"]),
    is_free=st.booleans(),
)
trained = drafts.filter(lambda draft: draft.split is TRAIN)
FREE = LicenceGate(deny=["*-NC-*"])


def sides(samples: list[Sample]) -> tuple[set[str], set[str]]:
    """Media of both splits."""
    pair = ({m.sha256 for s in samples if s.split is split for m in s.media} for split in Split)
    train, heldout = pair
    return train, heldout


@given(st.lists(drafts, max_size=30), st.sampled_from([FREE, LicenceGate()]))
def test_no_medium_and_no_text_is_on_both_sides_whatever_the_candidates(found, licences):
    came = samples_of(found)
    entered, barred = sift(came, spec(licences=licences))
    train, heldout = sides(entered)
    assert not train & heldout
    words = {s.annotations for s in entered if s.split is HELDOUT}
    assert not {s.annotations for s in entered if s.split is TRAIN and not s.media} & words
    assert len(entered) + sum(row.samples for row in barred) == len(came)
    lost = [s for s in came if s not in entered and s.split is TRAIN]
    may_enter = [s for s in came if not licences.bars(s.licence)]
    shared = sides(may_enter)[1]
    for sample in lost:  # and nobody is barred for nothing
        first = next((s for s in may_enter if alike(s, sample)), sample)
        is_shared = {m.sha256 for m in sample.media} & shared or sample.annotations in words
        assert is_shared or first.key != sample.key or licences.bars(sample.licence)


def alike(one: Sample, other: Sample) -> bool:
    same = [m.sha256 for m in one.media] == [m.sha256 for m in other.media]
    return same and (one.split, one.annotations) == (other.split, other.annotations)


@given(st.lists(drafts, min_size=1, max_size=30), st.data())
def test_whoever_fails_the_splits_stay_apart_and_the_same_are_barred(found, data):
    came = samples_of(found)
    entered, _ = sift(came, spec())
    failed = data.draw(st.sets(st.sampled_from([s.key for s in came])))
    candidates = ranked(entered, 7)
    lost = Counter(stratum for stratum in candidates.rows for key in keys(candidates, stratum) if key in failed)
    asked = [
        Quota(stratum=stratum, samples=number - lost[stratum], candidates=number)
        for stratum, number in candidates.counts().items()
    ]
    rows = choose(asked, candidates, failed)
    chosen = {key for own in rows.values() for key in candidates.keys_at(own)}
    assert chosen == {s.key for s in entered} - failed
    heldout = sides(came)[1]
    assert not {m.sha256 for s in entered if s.key in chosen and s.split is TRAIN for m in s.media} & heldout


def keys(candidates, stratum) -> list[str]:
    return candidates.keys_at(candidates.of(stratum))


@given(st.lists(drafts, max_size=20), st.lists(trained, max_size=20))
def test_a_source_that_is_appended_changes_nobody_who_stood_before(found, more):
    appended = [made(100 + index, draft, source="later") for index, draft in enumerate(more)]
    before, barred = sift(samples_of(found), spec())
    after, barred_after = sift([*samples_of(found), *appended], spec())
    assert [s for s in after if s.source != "later"] == before
    assert [row for row in told(barred_after) if not row[0].endswith("/later")] == told(barred)


@given(st.lists(drafts, max_size=20), st.lists(drafts, max_size=20))
def test_an_appended_heldout_source_takes_from_train_only_what_it_shares(found, more):
    appended = [made(100 + index, draft, source="later") for index, draft in enumerate(more)]
    before, _ = sift(samples_of(found), spec())
    after, _ = sift([*samples_of(found), *appended], spec())
    alive = {s.key for s in after}
    media, words = sides(appended)[1], {s.annotations for s in appended if s.split is HELDOUT}
    for sample in (s for s in before if s.key not in alive):
        assert sample.split is TRAIN
        assert {m.sha256 for m in sample.media} & media or (not sample.media and sample.annotations in words)


@given(st.lists(drafts, max_size=20))
def test_of_equal_candidates_one_enters_and_no_content_is_lost(found):
    came = samples_of(found)
    entered, _ = sift(came, spec(heldout_total=0))

    def content(s):
        return (s.split, tuple(m.sha256 for m in s.media), s.annotations)

    assert len({content(s) for s in entered}) == len(entered)
    assert {content(s) for s in entered} == {content(s) for s in came}
    assert all(next(s for s in came if content(s) == content(one)) is one for one in entered)


def test_what_the_heldout_split_bars_is_told_by_its_source():
    came = samples_of(
        [
            Draft(media=(1,)), Draft(media=(2, 3)), Draft(media=(4,)), Draft(words="two"), Draft(words="three"),
            Draft("b", HELDOUT, (1,), "x"), Draft("c", HELDOUT, (1, 3), "y"), Draft("b", HELDOUT, (), "two"),
        ]
    )  # fmt: skip
    entered, barred = sift(came, spec())
    assert told(barred) == [
        ("train/image/a", "heldout", "b", 1),
        ("train/multi_image/a", "heldout", "c", 1),
        ("train/text/a", "heldout", "b", 1),
    ]
    assert [s.key for s in entered if s.split is TRAIN] == ["a-2", "a-4"]
    assert sift(came, spec(heldout_total=0)) == (came, ())


def test_a_million_rows_never_reach_the_account():
    came = [made(i, Draft(media=(i,))) for i in range(50)]
    came += [made(100 + i, Draft("b", HELDOUT, (i,), "x")) for i in range(50)]
    assert told(sift(came, spec())[1]) == [("train/image/a", "heldout", "b", 50)]


def test_every_copy_is_told_by_the_first_and_copies_of_what_is_held_out_as_held_out():
    copies = [Draft("a"), Draft("b"), Draft("c"), Draft("b", media=(1,)), Draft("c", media=(1,))]
    came = samples_of([*copies, Draft("a", HELDOUT, (1,), "x")])
    assert told(sift(came, spec())[1]) == [
        ("train/image/b", "heldout", "a", 1),
        ("train/image/c", "heldout", "a", 1),
        ("train/text/b", "duplicate", "a", 1),
        ("train/text/c", "duplicate", "a", 1),
    ]


def test_heldout_that_a_gate_shuts_out_bars_nobody():
    came = samples_of([Draft(media=(1,)), Draft("b", HELDOUT, (1,), is_free=False)])
    entered, barred = sift(came, spec(licences=FREE))
    assert [s.key for s in entered] == ["a-0"]
    assert told(barred) == [("heldout/image/b", "licence", "CC-BY-NC-4.0", 1)]


def test_one_that_a_gate_shuts_out_does_not_take_its_equals_with_it():
    came = samples_of([Draft(is_free=False), Draft("b"), Draft("c")])
    entered, barred = sift(came, spec(licences=FREE))
    assert [s.key for s in entered] == ["b-1"]
    assert told(barred)[1] == ("train/text/c", "duplicate", "b", 1)


@pytest.mark.parametrize("heldout", [HELDOUT, TRAIN])
def test_a_source_of_weight_0_bars_nobody(heldout):
    came = samples_of([Draft("b", heldout, (1,)), Draft("a", media=(1,))])
    entered, barred = sift(came, spec(weights={"b": 0}))
    assert (entered, barred) == (came, ())
    assert len(sift(came, spec())[0]) == 1


def test_the_same_span_of_a_film_is_a_duplicate_and_another_is_not():
    def film(index, start_ns, end_ns):
        medium = MediaRef(
            kind="video", path="x", sha256="0" * 64, duration_ns=90, start_ns=start_ns, exclusive_end_ns=end_ns
        )
        return made(index, Draft(), modality=Modality.VIDEO, media=(medium,))

    came = [film(0, 0, 0), film(1, 0, 90), film(2, 0, 50), film(3, 10, 0)]
    assert [s.key for s in sift(came, spec())[0]] == ["a-0", "a-2", "a-3"]


def test_media_that_were_not_probed_count_by_path():
    def unprobed(index, path, split=TRAIN, words="one"):
        return made(index, Draft("a", split, (1,), words), media=(MediaRef(kind="image", path=path),))

    came = [unprobed(0, "x"), unprobed(1, "x"), unprobed(2, "y"), unprobed(3, "y", HELDOUT, "two")]
    assert told(sift(came, spec())[1]) == [
        ("train/image/a", "duplicate", "a", 1),
        ("train/image/a", "heldout", "a", 1),
    ]


def test_labels_beside_the_words_make_no_other_sample():
    def asked(index, **more):
        return made(index, Draft(), annotations=(QuestionAnswer(question="q?", answer="a", **more),))

    came = [asked(0), asked(1, topic="colour", evidence="frame"), made(2, Draft(words="q?"))]
    assert [s.key for s in sift(came, spec())[0]] == ["a-0", "a-2"]
