"""Law 5 for nested targets: categories within sources within modalities, floors and caps, in any unit."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan.quotas import QuotaError, quotas
from schemas.mixture import MixtureSpec
from schemas.plan import Stratum
from schemas.sample import Category, Modality, Split
from schemas.units import Unit

SOURCES = ("a", "b", "c")
TWO = (Category.CAPTIONING, Category.REASONING)


@st.composite
def cases(draw):
    """A mixture of text and video, and candidates for it."""
    weights = {name: draw(st.integers(0, 4)) for name in SOURCES}
    weights["a"] = max(1, weights["a"])
    floors = {name: draw(st.integers(0, 6)) for name in SOURCES if weights[name] and draw(st.booleans())}
    caps = {name: floors.get(name, 0) + draw(st.integers(0, 60)) for name in SOURCES if draw(st.booleans())}
    divided = (
        {"a": {TWO[0]: draw(st.integers(1, 5)), TWO[1]: draw(st.integers(0, 5))}} if draw(st.booleans()) else {}
    )
    video = draw(st.integers(1, 100))
    mixture = MixtureSpec(
        total=draw(st.integers(1, 150)), shares={"text": 100 - video, "video": video},
        weights=weights, floors=floors, caps=caps, categories=divided,
        unit=draw(st.sampled_from([Unit.SAMPLES, Unit.SECONDS])),
    )  # fmt: skip
    found = {stratum("docs", Modality.TEXT): draw(st.integers(0, 80))}
    for name in SOURCES:
        for category in TWO if name in divided else (None,):
            found[stratum(name, category=category)] = draw(st.integers(0, 80))
    return mixture, {each: number * mixture.unit.whole for each, number in found.items()}


def stratum(source: str, modality: Modality = Modality.VIDEO, category: Category | None = None) -> Stratum:
    return Stratum(split=Split.TRAIN, modality=modality, source=source, category=category)


def asked(mixture: MixtureSpec, found: dict[Stratum, int]) -> dict[Stratum, int]:
    """Amounts by stratum."""
    supply = None if mixture.unit is Unit.SAMPLES else found
    return {q.stratum: q.samples + q.target for q in quotas(mixture, found, supply=supply)}


def best_of(mixture: MixtureSpec, found: dict[Stratum, int]) -> int | None:
    """The greatest total as it is told; None where this one is met."""
    try:
        asked(mixture, found)
    except QuotaError as error:
        return int(str(error).split("can meet is ")[1].split(";")[0]) if "can meet is" in str(error) else -1
    return None


@given(cases())
@settings(max_examples=100)
def test_every_level_sums_to_the_whole_above_it(case):
    mixture, found = case
    plenty = dict.fromkeys(found, 10**15)
    try:
        wanted = asked(mixture, plenty)
    except QuotaError as error:
        assert "mixture.floors and mixture.caps do not fit" in str(error)  # noqa: PT017
        return
    total = mixture.total * mixture.unit.whole
    by_modality, by_source = Counter(), Counter()
    for each, amount in wanted.items():
        by_modality[each.modality] += amount
        by_source[each.modality, each.source] += amount
    assert sum(wanted.values()) == total
    for modality, share in mixture.shares.items():
        assert abs(by_modality[modality] - total * share / 100) < 1
    for (_, source), amount in by_source.items():
        assert amount >= mixture.floors.get(source, 0) * mixture.unit.whole
        assert amount <= mixture.caps.get(source, total) * mixture.unit.whole
    for source, weights in mixture.categories.items():
        whole = sum(weights.values())
        for category, weight in weights.items():
            exact = by_source[Modality.VIDEO, source] * weight / whole
            assert abs(wanted[stratum(source, category=category)] - exact) < 1


@pytest.mark.slow
@given(cases())
@settings(max_examples=100)
def test_the_greatest_total_that_is_told_can_be_met_and_no_greater_one_below_what_was_asked(case):
    mixture, found = case
    best = best_of(mixture, found)
    if best is None or best < 0:
        return
    totals = range(1, mixture.total)
    feasible = [n for n in totals if best_of(mixture.model_copy(update={"total": n}), found) is None]
    assert best == max(feasible, default=0)


def test_seconds_are_shared_to_the_nanosecond():
    mixture = MixtureSpec(total=100, unit="seconds", shares={"video": 100}, weights={"a": 1, "b": 2})
    found = {stratum("a"): 10**12, stratum("b"): 10**12}
    assert asked(mixture, found) == {stratum("a"): 33_333_333_333, stratum("b"): 66_666_666_667}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"floors": {"a": 3}, "caps": {"a": 2}}, "the floor of a lies above its cap"),
        ({"floors": {"a": 3}, "weights": {"a": 0}}, "a has a floor, but its weight of 0 leaves it out"),
        ({"floors": {"a": "1/3"}}, "floors of a: no whole number of samples"),
        ({"categories": {"a": {"captioning": 0}}}, "categories of a: none has a weight above zero"),
        ({"total": 10_000_001}, "at most 10,000,000 can be planned at once"),
    ],
)
def test_targets_that_contradict_themselves_are_refused_with_the_mend(fields, words):
    with pytest.raises(ValueError, match=words):
        MixtureSpec.model_validate({"total": 10, "shares": {"video": 100}, **fields})


def test_thirds_of_a_second_may_be_bounds_as_fractions_of_a_second_cannot():
    spec = {"total": 10, "shares": {"video": 100}, "unit": "seconds"}
    assert MixtureSpec.model_validate({**spec, "caps": {"a": "0.5"}}).caps == {"a": Fraction(1, 2)}
    with pytest.raises(ValueError, match="no whole number"):
        MixtureSpec.model_validate({**spec, "caps": {"a": "1/3"}})
