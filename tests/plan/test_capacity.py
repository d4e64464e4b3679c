"""The capacity plan's arithmetic, against sums done by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.capacity import capacity
from pipeline.plan.workload import counted
from schemas.base import InputError
from schemas.capacity import Prices, Rates, TokenSeconds, UnitSeconds
from schemas.recipe import Recipe
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample, Split
from schemas.workload import Work

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
FULL = {"size": "full", "weights": "random"}
RECIPE = Recipe.model_validate(
    {
        "name": "plan",
        "output": "out",
        "sources": [{"kind": "shapes"}],
        "mixture": {"total": 4, "shares": {"text": 25, "image": 25, "video": 50}},
        "encoders": {
            "siglip": {"architecture": "siglip", **FULL, "preprocessing": {"size": 384, **HALF}},
            "internvideo2": {"architecture": "internvideo2", **FULL, "preprocessing": {"size": 224, **HALF}},
        },
    }
)
RATES = Rates(
    machine="a core and a device",
    decode_core_s=UnitSeconds(clip=0.36, image=0.036),
    encode_device_s={"siglip": UnitSeconds(clip=3.6, image=0.9), "internvideo2": UnitSeconds(clip=7.2, image=7.2)},
    prices=Prices(core_hour=0.1, device_hour=2.0, terabyte_month=20.0),
)


def sample(key: str, modality: Modality, *media: MediaRef, category: Category = Category.REASONING) -> Sample:
    return Sample(
        key=key, source="shapes", modality=modality, category=category, split=Split.TRAIN, media=media,
        annotations=(Caption(text="words"),), licence="CC0-1.0", annotator=Generator(name="human"),
    )  # fmt: skip


def film(seconds: int, start_s: int = 0, end_s: int = 0) -> MediaRef:
    s = 10**9
    return MediaRef(
        kind="video", path="a.mp4", duration_ns=seconds * s, start_ns=start_s * s, exclusive_end_ns=end_s * s
    )


def clips_of(span_ns: int, max_clips: int | None) -> int:
    return min(span_ns // (2 * 10**9), max_clips or 1000)


CHOSEN = [
    sample("text", Modality.TEXT),
    sample("image", Modality.IMAGE, MediaRef(kind="image", path="a.png")),
    sample("film", Modality.VIDEO, film(10)),  # 5 clips
    sample("span", Modality.VIDEO, film(100, 20, 24), category=Category.CAPTIONING),  # 2 clips
]


def work(recipe: Recipe) -> Work:
    return counted(CHOSEN, recipe, clips_of).total


def test_bytes_are_those_of_the_native_grids():
    """9.6 MB a clip of the pair: 4 x 27 x 27 x 1152 and 4 x 16 x 16 x 1408 numbers of 2 bytes."""
    found = capacity(work(RECIPE), RECIPE)
    assert (found.samples, found.clips, found.images, found.film_s) == (4, 7, 1, 14)
    assert found.feature_bytes == {
        "siglip": 7 * 6_718_464 + 1_679_616 + 4 * 128,
        "internvideo2": 8 * 2_883_584 + 4 * 128,
    }
    assert found.frame_bytes == 0
    assert found.decode_core_h is None
    assert found.cost is None


def test_frames_are_counted_where_the_shards_hold_them():
    recipe = RECIPE.model_copy(
        update={"shards": RECIPE.shards.model_copy(update={"frames_for": (Category.CAPTIONING,)})}
    )
    frames = 2 * 4 * 3 * (384**2 + 224**2)
    assert capacity(work(recipe), recipe).frame_bytes == frames + 2 * 4 * 128


@pytest.mark.parametrize(("quality", "permille"), [(1, 42), (75, 42), (76, 55), (95, 94), (100, 132)])
def test_jpeg_frames_are_estimated_from_the_measured_quality_and_called_so(quality, permille):
    changes = {"frames_for": (Category.CAPTIONING,), "frames_codec": "mjpeg", "frames_quality": quality}
    recipe = RECIPE.model_copy(update={"shards": RECIPE.shards.model_copy(update=changes)})
    needed = capacity(work(recipe), recipe)
    assert needed.frame_bytes == 2 * (4 * 3 * (384**2 + 224**2) * permille // 1000)
    assert needed.is_frame_bytes_estimated
    assert not capacity(work(RECIPE), RECIPE).is_frame_bytes_estimated


@pytest.mark.parametrize("codec", ["rawvideo", "mjpeg"])
@given(counts=st.lists(st.tuples(*[st.integers(0, 10**6)] * 4), min_size=2, max_size=2))
def test_bytes_of_parts_sum_to_those_of_the_whole(codec, counts):
    changes = {"frames_for": (Category.CAPTIONING,), "frames_codec": codec}
    recipe = RECIPE.model_copy(update={"shards": RECIPE.shards.model_copy(update=changes)})
    names = ("samples", "clips", "images", "clips_with_frames")
    parts = [capacity(Work(**dict(zip(names, each, strict=True))), recipe) for each in counts]
    whole = capacity(Work(**dict(zip(names, map(sum, zip(*counts, strict=True)), strict=True))), recipe)
    assert whole.frame_bytes == sum(part.frame_bytes for part in parts)
    assert whole.stored_bytes == sum(part.stored_bytes for part in parts)


def test_hours_and_money_follow_from_the_rates():
    found = capacity(work(RECIPE), RECIPE, RATES)
    assert found.decode_core_h == pytest.approx((7 * 0.36 + 0.036) / 3600)
    assert found.encode_device_h == pytest.approx(
        {"siglip": (7 * 3.6 + 0.9) / 3600, "internvideo2": 8 * 7.2 / 3600}
    )
    assert found.cost == pytest.approx((7 * 0.36 + 0.036) / 36000 + 2 * (7 * 3.6 + 0.9 + 8 * 7.2) / 3600)
    assert found.cost_a_month == pytest.approx(sum(found.feature_bytes.values()) / 1e12 * 20)


def test_rates_that_lack_an_encoder_are_refused():
    rates = RATES.model_copy(update={"encode_device_s": {"siglip": UnitSeconds(clip=1)}})
    with pytest.raises(InputError, match="nothing of encoder internvideo2, only of siglip"):
        capacity(work(RECIPE), RECIPE, rates)


def test_rates_of_another_encoder_are_refused():
    rates = RATES.model_copy(update={"encoders": {"siglip": "siglip tiny float32"}})
    with pytest.raises(InputError, match=r"are those of siglip tiny float32, the recipe's is siglip full float32"):
        capacity(work(RECIPE), RECIPE, rates)


def test_a_clip_of_the_native_pair_is_nine_point_six_megabytes():
    needed = capacity(Work(clips=1), RECIPE)
    assert needed.stored_bytes == 4 * 729 * 1152 * 2 + 4 * 256 * 1408 * 2 == 9_602_048


def test_tokens_cost_device_hours_and_money():
    talks = Work(talks=10, prompt_tokens=7_200, reply_tokens=3_600)
    rates = RATES.model_copy(update={"generate_device_s": TokenSeconds(prompt_token=0.5, reply_token=2.0)})
    needed = capacity(talks, RECIPE, rates)
    assert (needed.talks, needed.prompt_tokens, needed.reply_tokens) == (10, 7_200, 3_600)
    assert needed.generate_device_h == pytest.approx(1 + 2)
    assert needed.cost == pytest.approx(3 * 2.0)


def test_rates_that_tell_nothing_of_generation_leave_it_unknown():
    assert capacity(Work(talks=1, reply_tokens=600), RECIPE, RATES).generate_device_h is None
    assert capacity(Work(), RECIPE, RATES).generate_device_h == 0


def test_the_plan_says_what_its_rates_were_measured_on():
    assert capacity(Work(), RECIPE, RATES).rates == "a core and a device"
