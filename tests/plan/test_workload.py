"""A statement and counted samples come to the same sums; every number of a statement is checked at birth."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.plan.apportion import apportion
from pipeline.plan.workload import counted, stated
from schemas.recipe import Recipe
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample
from schemas.workload import StatedWorkload, Work, Workload

S = 10**9
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
RECIPE = Recipe.model_validate(
    {
        "name": "plan",
        "output": "out",
        "sources": [{"kind": "shapes"}],
        "mixture": {"total": 4, "shares": {"video": 100}},
        "encoders": {
            "siglip": {"architecture": "siglip", "weights": "random", "preprocessing": {"size": 384, **HALF}}
        },
        "shards": {"frames_for": ["captioning"]},
    }
)


def clips_of(span_ns: int, max_clips: int | None) -> int:
    """Clips of 2 s, at most 25 unless told otherwise."""
    return min(-(-span_ns // (2 * S)), max_clips or 25)


def part(name: str = "a", modality: str = "video", samples: int = 10, **fields: object) -> dict:
    if modality == "video":
        fields = {"films": {"mean_s": 10, "basis": "a test"}, **fields}
    return {"part": name, "modality": modality, "samples": said(samples), **fields}


def said(value: object) -> dict:
    return {"value": value, "basis": "a test"}


def work_of(*parts: dict) -> Workload:
    return stated(StatedWorkload.model_validate({"name": "w", "parts": list(parts)}), clips_of)


def film(number: int, seconds: int) -> Sample:
    medium = MediaRef(kind="video", path="a.mp4", duration_ns=seconds * S)
    return Sample(
        key=f"k{number}", source="shapes", modality=Modality.VIDEO, category=Category.CAPTIONING, media=(medium,),
        annotations=(Caption(text="words"),), licence="CC0-1.0", annotator=Generator(name="human"),
    )  # fmt: skip


def picture(number: int, images: int) -> Sample:
    media = tuple(MediaRef(kind="image", path=f"{i}.png") for i in range(images))
    modality = Modality.IMAGE if images == 1 else Modality.MULTI_IMAGE if images else Modality.TEXT
    return Sample(
        key=f"p{number}", source="own", modality=modality, category=Category.REASONING, media=media,
        annotations=(Caption(text="words"),), licence="CC0-1.0", annotator=Generator(name="human"),
    )  # fmt: skip


@given(samples=st.integers(0, 40), seconds=st.integers(1, 200))
def test_a_histogram_of_one_bin_is_the_workload_of_samples_of_that_length(samples, seconds):
    films = {"histogram": {seconds: 1}, "basis": "a test"}
    told = work_of(part(samples=samples, films=films, frames=said(1))).total
    assert told == counted([film(i, seconds) for i in range(samples)], RECIPE, clips_of).total
    assert told == work_of(part(samples=samples, films={"mean_s": seconds, "basis": "x"}, frames=said(1))).total


def test_stated_pictures_and_texts_are_the_workload_of_such_samples():
    chosen = [picture(i, images) for i, images in enumerate([0, 0, 1, 3, 3])]
    told = work_of(
        part("t", "text", 2), part("i", "image", 1), part("m", "multi_image", 2, images=said(3))
    ).total  # fmt: skip
    assert told == counted(chosen, RECIPE, clips_of).total
    assert (told.samples, told.images) == (5, 7)


def test_parts_are_the_strata_and_sum_to_the_total():
    found = counted([film(1, 10), picture(1, 1), picture(2, 3), film(2, 9)], RECIPE, clips_of)
    assert [each.part for each in found.parts] == ["train/image/own", "train/multi_image/own", "train/video/shapes"]
    for name in Work.model_fields:
        assert getattr(found.total, name) == sum(getattr(each, name) for each in found.parts)
    assert found.total == Work(samples=4, images=4, clips=10, film_ns=19 * S, clips_with_frames=10)


def test_the_cap_holds_in_each_bin_where_a_mean_would_hide_it():
    lengths = {10: "0.9", 1000: "0.1"}
    binned = work_of(part(samples=100, films={"histogram": lengths, "basis": "x"})).total
    meant = work_of(part(samples=100, films={"mean_s": 109, "basis": "x"})).total
    assert binned.film_ns == meant.film_ns == 10_900 * S
    assert (binned.clips, meant.clips) == (90 * 5 + 10 * 25, 100 * 25)


def test_a_part_may_have_a_cap_of_its_own():
    long = {"mean_s": 1000, "basis": "x"}
    assert work_of(part(samples=1, films=long)).total.clips == 25
    assert work_of(part(samples=1, films=long, max_clips=said(200))).total.clips == 200


@given(samples=st.integers(0, 10**7), cut=st.integers(0, 100))
def test_every_film_of_a_histogram_is_in_one_bin(samples, cut):
    shares = {2: Fraction(cut, 100), 4: 1 - Fraction(cut, 100)}
    told = work_of(part(samples=samples, films={"histogram": shares, "basis": "x"})).total
    short = apportion(samples, {"2": shares[2], "4": shares[4]})["2"]
    assert told.clips == short + 2 * (samples - short)
    assert told.film_ns == (2 * short + 4 * (samples - short)) * S


def test_talks_tokens_and_frames_are_shares_of_their_part():
    talks = {"share": said(0.25), "prompt_tokens": said(1000), "reply_tokens": said(600.5)}
    told = work_of(part(samples=10, talks=talks, frames=said(0.5))).total
    assert told.clips_with_frames == 25
    assert (told.talks, told.prompt_tokens, told.reply_tokens) == (3, 3000, 1802)  # 2.5 and 1801.5: half goes up


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (part(films={"histogram": {5: 0.5, 10: 0.4}, "basis": "x"}), "sum to 0.9, must be exactly 1: 5 s 0.5"),
        (part(films={"histogram": {5: 1.5, 10: -0.5}, "basis": "x"}), "less than or equal to 1"),
        (part(films={"histogram": {0: 1}, "basis": "x"}), "greater than 0"),
        (part(films={"histogram": {5: 1}, "mean_s": 3, "basis": "x"}), "either mean_s or histogram"),
        (part(films={"basis": "x"}), "either mean_s or histogram"),
        (part(films=None), "video parts need `films`"),
        (part(modality="text", films={"mean_s": 3, "basis": "x"}), "text parts have no `films`"),
        (part(modality="multi_image"), "multi_image parts need `images`"),
        (part(modality="multi_image", images=said(1)), "has 2 images or more, got 1"),
        (part(modality="image", images=said(1)), "image parts have no `images`"),
        (part(modality="image", frames=said(1)), "only a video part has"),
        (part(max_clips=said(0)), "max_clips is 0"),
        (part(samples=-1), "greater than or equal to 0"),
        (part(samples=1.5), "valid integer"),
        (part(frames=said(1.1)), "less than or equal to 1"),
        (part(samples=3) | {"samples": {"value": 3}}, "Field required"),
        (part(lenght=3), "Extra inputs are not permitted"),
    ],
)
def test_a_bad_statement_is_refused_in_words(bad, words):
    with pytest.raises(ValidationError, match=words):
        work_of(bad)


def test_two_parts_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="two parts are named a"):
        work_of(part(), part())
