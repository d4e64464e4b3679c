"""Law 5: quotas are exact integers."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan.apportion import apportion
from pipeline.plan.quotas import QuotaError, quotas
from schemas.mixture import MixtureSpec
from schemas.plan import Quota, Stratum
from schemas.sample import Modality, Split

weights = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.fractions(0, 50, max_denominator=1000), min_size=1, max_size=8
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


@pytest.mark.slow
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
