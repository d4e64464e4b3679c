"""Laws 5 and 6: exact ratio, stable choice; with hypothesis choosing quotas, failures and their order."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan.choose import choose, ranked
from pipeline.plan.order import interleave, place
from pipeline.plan.quotas import QuotaError, apportion, quotas
from schemas.plan import Quota, Stratum
from schemas.recipe import MixtureSpec
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample, Split

weights = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.fractions(0, 50, max_denominator=1000), min_size=1, max_size=8
)


def sample(source: str, index: int, modality: Modality = Modality.VIDEO, split: Split = Split.TRAIN) -> Sample:
    media = {
        Modality.TEXT: (),
        Modality.IMAGE: (MediaRef(kind="image", path="a.png"),),
        Modality.MULTI_IMAGE: (MediaRef(kind="image", path="a.png"), MediaRef(kind="image", path="b.png")),
        Modality.VIDEO: (MediaRef(kind="video", path="a.mp4"),),
    }
    return Sample(
        key=f"{source}-{split}-{modality}-{index}",
        source=source,
        modality=modality,
        category=Category.CAPTIONING,
        split=split,
        media=media[modality],
        annotations=(Caption(text="words"),),
        licence="CC0-1.0",
        annotator=Generator(name="human"),
    )


def stratum(source: str, modality: Modality = Modality.VIDEO, split: Split = Split.TRAIN) -> Stratum:
    return Stratum(split=split, modality=modality, source=source)


@given(st.integers(0, 10**7), weights)
def test_apportioned_parts_sum_to_the_total_and_lie_within_one_of_their_share(total, shares):
    whole = sum(shares.values())
    if whole == 0:
        return
    parts = apportion(total, shares)
    assert sum(parts.values()) == total
    for name, share in shares.items():
        assert abs(parts[name] - total * share / whole) < 1
        assert share > 0 or parts[name] == 0


def test_apportion_follows_the_worked_example_of_hamilton():
    # 21, 28.7, 29.3 and 21 of 100: floors 21 28 29 21 leave one, which goes to the remainder .7
    shares = {"a": Fraction(21), "b": Fraction(287, 10), "c": Fraction(293, 10), "d": Fraction(21)}
    assert apportion(100, shares) == {"a": 21, "b": 29, "c": 29, "d": 21}


def test_ten_percent_of_text_is_ten_percent_where_floats_fail():
    # .1 + .2 + .7 in floats is .9999999999999999; and 3 * 0.1 is not 0.3
    assert apportion(10**6, {"t": Fraction(10), "i": Fraction(20), "v": Fraction(70)})["t"] == 100_000


@given(st.lists(st.integers(0, 60), min_size=1, max_size=7))
def test_every_prefix_holds_every_group_within_one_sample(counts):
    groups = dict(enumerate(counts))
    total, seen = sum(counts), Counter()
    for places, group in enumerate(interleave(groups), start=1):
        seen[group] += 1
        for other, quota in groups.items():
            assert abs(seen[other] - Fraction(places * quota, total)) < 1
    assert seen == Counter({group: count for group, count in groups.items() if count})


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(list(Modality)), st.sampled_from(["a", "b", "c"])),
        st.integers(0, 30),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 9),
)
@settings(max_examples=60)
def test_a_modality_is_exact_in_every_prefix_however_many_sources_feed_it(sizes, seed):
    chosen = {
        stratum(source, modality): [f"{source}-{modality}-{i}" for i in range(n)]
        for (modality, source), n in sizes.items()
    }
    placed = place(chosen, seed)
    assert sorted(p.key for p in placed) == sorted(key for keys in chosen.values() for key in keys)
    quota = Counter(p.stratum.modality for p in placed)
    seen, of_source = Counter(), Counter()
    for places, row in enumerate(placed, start=1):
        seen[row.stratum.modality] += 1
        of_source[row.stratum] += 1
        for modality in quota:
            assert abs(seen[modality] - Fraction(places * quota[modality], len(placed))) < 1
        for other, keys in chosen.items():
            # Two roundings, one a level: within two, where a modality is within one.
            assert abs(of_source[other] - Fraction(places * len(keys), len(placed))) < 2


@given(st.sets(st.integers(0, 39), max_size=20), st.randoms(use_true_random=False))
def test_failed_candidates_are_replaced_alike_in_whatever_order_they_fail(failures, rng):
    candidates = ranked([sample("a", i) for i in range(40)], seed=1)
    quota = [Quota(stratum=stratum("a"), samples=20, candidates=40)]
    keys = [sample("a", i).key for i in failures]
    at_once = choose(quota, candidates, set(keys))
    rng.shuffle(keys)
    failed: set[str] = set()
    for key in keys:
        failed.add(key)
        one_by_one = choose(quota, candidates, failed)
    assert not keys or one_by_one == at_once
    assert len(at_once[stratum("a")]) == 20
    first = choose(quota, candidates, set())[stratum("a")]
    assert [k for k in first if k not in failed] == [k for k in at_once[stratum("a")] if k in first]


def test_adding_a_source_or_raising_the_total_keeps_what_was_chosen():
    few = [sample("a", i) for i in range(50)]
    more = few + [sample("b", i) for i in range(50)]
    before = choose([Quota(stratum=stratum("a"), samples=10, candidates=50)], ranked(few, 3), set())
    after = choose([Quota(stratum=stratum("a"), samples=20, candidates=50)], ranked(more, 3), set())
    assert after[stratum("a")][:10] == before[stratum("a")]


def test_another_seed_makes_another_choice():
    samples = [sample("a", i) for i in range(50)]
    assert ranked(samples, 1)[stratum("a")] != ranked(samples, 2)[stratum("a")]


def test_used_up_reserves_say_who_falls_short_and_by_how_many():
    candidates = ranked([sample("a", i) for i in range(5)], 0)
    failed = set(candidates[stratum("a")][:2])
    with pytest.raises(QuotaError, match=r"train/video/a needs 4 .* only 3 of its 5 .* 1 short"):
        choose([Quota(stratum=stratum("a"), samples=4, candidates=5)], candidates, failed)


def spec(total: int, text: str = "10", video: str = "90", **more) -> MixtureSpec:
    return MixtureSpec(total=total, shares={"text": text, "video": video}, **more)


def test_quotas_follow_shares_then_weights():
    found = {stratum("docs", Modality.TEXT): 99, stratum("a"): 99, stratum("b"): 99}
    result = quotas(spec(101, weights={"a": 2}), found)
    # text 10.1 -> 10; video 90.9 -> 91 by remainder; 91 * 2/3 = 60.67 -> 61 and 30
    assert {q.stratum.label: q.samples for q in result} == {
        "train/text/docs": 10,
        "train/video/a": 61,
        "train/video/b": 30,
    }


@given(st.integers(1, 400), st.integers(0, 30), st.integers(0, 200), st.integers(0, 200))
@settings(max_examples=80)
def test_the_greatest_total_that_is_named_can_be_met_and_the_next_cannot(total, text, a, b):
    found = {stratum("docs", Modality.TEXT): text, stratum("a"): a, stratum("b"): b}

    def feasible(total: int) -> bool:
        try:
            quotas(spec(total), found)
        except QuotaError:
            return False
        return True

    try:
        quotas(spec(total), found)
    except QuotaError as error:
        best = int(str(error).split("can meet is ")[1].split(";")[0])
        assert best == max((n for n in range(1, total) if feasible(n)), default=0)


def test_a_modality_without_a_source_is_named():
    with pytest.raises(QuotaError, match="no source with a weight above zero has any"):
        quotas(spec(10), {stratum("a"): 50})


def test_heldout_samples_have_quotas_of_their_own():
    found = {stratum("docs", Modality.TEXT): 9, stratum("a"): 9, stratum("a", split=Split.HELDOUT): 9}
    result = quotas(spec(10, heldout_total=4), found)
    assert result[-1] == Quota(stratum=stratum("a", split=Split.HELDOUT), samples=4, candidates=9)


def test_shares_that_do_not_sum_to_a_hundred_are_refused():
    with pytest.raises(ValueError, match=r"sum to 99.9, must be exactly 100"):
        spec(10, "10", "89.9")


def test_shares_of_the_paper_are_read_exactly_from_yaml_floats():
    shares = {"text": 14.4, "image": 33.0, "multi_image": 16.6, "video": 36.0}
    assert sum(MixtureSpec(total=1, shares=shares).shares.values()) == 100
