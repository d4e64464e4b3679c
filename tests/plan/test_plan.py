"""Laws 5 and 6: exact ratio, stable choice; with hypothesis choosing quotas, failures and their order."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan.choose import choose, ranked
from pipeline.plan.gates import sift
from pipeline.plan.order import interleave, place
from pipeline.plan.quotas import QuotaError, apportion, quotas
from schemas.gates import Gate, Gates, LicenceGate
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


LICENCES = st.sampled_from(["MIT", "CC-BY-4.0", "CC-BY-NC-4.0", "MIT AND CC-BY-NC-4.0"])
ANNOTATORS = st.sampled_from(["human", "gpt-4o", "llama-3"])
GATES = Gates(licences=LicenceGate(deny=["*-NC-*"]), annotators=Gate(deny=["gpt-4*"]))
STRICT = Gates(licences=LicenceGate(allow=["MIT"]), annotators=Gate(allow=["human"]))


def labelled(index: int, licence: str, annotator: str, source: str = "a") -> Sample:
    return sample(source, index).model_copy(update={"licence": licence, "annotator": Generator(name=annotator)})


@given(st.lists(st.tuples(LICENCES, ANNOTATORS), max_size=40), st.sampled_from([GATES, STRICT, Gates()]))
def test_a_gate_loses_nobody_and_tells_each_that_it_bars_once(terms, gates):
    came = [labelled(index, *each) for index, each in enumerate(terms)]
    entered, barred = sift(came, gates)
    assert len(entered) + sum(row.samples for row in barred) == len(came)
    assert entered == [one for one in came if one in entered]
    for one in came:
        is_let_in = gates is STRICT and (one.licence, one.annotator.name) == ("MIT", "human")
        is_let_in |= gates is GATES and "-NC-" not in one.licence and one.annotator.name != "gpt-4o"
        assert (one in entered) == (is_let_in or gates.is_open)


@given(st.lists(st.tuples(LICENCES, ANNOTATORS), min_size=20, max_size=40), st.integers(0, 9))
def test_a_gate_changes_no_rank_among_those_that_it_lets_in(terms, seed):
    came = [labelled(index, *each) for index, each in enumerate(terms)]
    entered, _ = sift(came, GATES)
    before, after = ranked(came, seed), ranked(entered, seed)
    alive = {one.key for one in entered}
    assert [key for key in before[stratum("a")] if key in alive] == after.get(stratum("a"), [])


def test_what_is_barred_is_told_by_stratum_and_reason():
    terms = [("MIT", "human"), ("CC-BY-NC-4.0", "gpt-4o"), ("CC-BY-NC-4.0", "human"), ("MIT", "gpt-4o")]
    came = [labelled(index, *each) for index, each in enumerate(terms)]
    _, barred = sift([*came, labelled(9, "MIT", "gpt-4o", "b")], GATES)
    assert [tuple(row.model_dump().values()) for row in barred] == [
        ("train/video/a", "annotator", "gpt-4o", 1),
        ("train/video/a", "licence", "CC-BY-NC-4.0", 2),
        ("train/video/b", "annotator", "gpt-4o", 1),
    ]


def test_a_quota_that_a_gate_leaves_short_says_so():
    terms = [("MIT", "human")] * 3 + [("CC-BY-NC-4.0", "human")] * 5 + [("MIT", "gpt-4o")] * 2
    entered, barred = sift([labelled(index, *each) for index, each in enumerate(terms)], GATES)
    found = {each: len(keys) for each, keys in ranked(entered, 0).items()} | {stratum("docs", Modality.TEXT): 9}
    told = (
        r"train/video/a has 3 candidates for a quota of 9, 6 short \(the gates bar 7 more: "
        r"licence 'CC-BY-NC-4.0' 5, annotator 'gpt-4o' 2\)\..* can meet is 3"
    )
    with pytest.raises(QuotaError, match=told):
        quotas(spec(10), found, barred)
    assert next(q for q in quotas(spec(3), found, barred) if q.stratum.source == "a").barred == 7


def test_a_source_that_is_barred_whole_falls_short_and_hands_its_share_to_nobody():
    came = [labelled(index, "CC-BY-NC-4.0", "human") for index in range(5)]
    entered, barred = sift([*came, *(sample("b", index) for index in range(20))], GATES)
    found = {each: len(keys) for each, keys in ranked(entered, 0).items()} | {stratum("docs", Modality.TEXT): 9}
    with pytest.raises(QuotaError, match=r"train/video/a has 0 .* bar 5 more.* weight of 0 leaves out"):
        quotas(spec(10), found, barred)
    by_label = {q.stratum.label: q.samples for q in quotas(spec(10, weights={"a": 0}), found, barred)}
    assert by_label == {"train/text/docs": 1, "train/video/a": 0, "train/video/b": 9}


def test_heldout_quotas_say_what_a_gate_bars():
    far = [sample("a", i, split=Split.HELDOUT).model_copy(update={"licence": "CC-BY-NC-4.0"}) for i in range(4)]
    _, barred = sift(far, GATES)
    found = {stratum("docs", Modality.TEXT): 9, stratum("a"): 9}
    with pytest.raises(QuotaError, match=r"heldout/video/a has 0 .* 2 short \(the gates bar 4 more"):
        quotas(spec(10, heldout_total=2), found, barred)


def test_used_up_reserves_say_what_a_gate_bars():
    candidates = ranked([sample("a", i) for i in range(2)], 0)
    with pytest.raises(QuotaError, match=r"2 short \(7 more are barred by the recipe's gates\)\. See why"):
        choose([Quota(stratum=stratum("a"), samples=4, candidates=2, barred=7)], candidates, set())
