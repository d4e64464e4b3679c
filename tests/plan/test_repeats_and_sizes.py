"""The choice where a source comes again, or where something else than samples is shared."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.choose import Sizes, choose, rank_hash, ranked, stratum_of
from pipeline.plan.passes import Passes, check_apart
from pipeline.plan.quotas import QuotaError
from schemas.plan import Quota, Stratum
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample, Split
from schemas.units import Unit

HERE = Stratum(split=Split.TRAIN, modality=Modality.VIDEO, source="a")


def sample(key: str, split: Split = Split.TRAIN, category: Category = Category.CAPTIONING) -> Sample:
    return Sample(
        key=key, source="a", modality=Modality.VIDEO, category=category, split=split,
        media=(MediaRef(kind="video", path="a.mp4"),), annotations=(Caption(text="words"),),
        licence="CC0-1.0", annotator=Generator(name="human"),
    )  # fmt: skip


@given(st.integers(1, 12), st.fractions(1, 4, max_denominator=7), st.data(), st.integers(0, 5))
def test_later_passes_come_behind_earlier_ones_and_end_where_the_repeats_do(number, repeats, data, seed):
    keys = [f"k{i}" for i in range(number)]
    candidates = ranked([sample(key) for key in keys], seed, repeats={"a": repeats})
    offered = candidates.keys_at(candidates.of(HERE))
    passes = [[key if not e else f"{key}-e{e}" for key in keys] for e in range(ceil(repeats))]
    plainly = [key for each in passes for key in sorted(each, key=lambda key: rank_hash(seed, key))]
    assert offered == plainly[: floor(repeats * number)]
    wanted = data.draw(st.integers(0, len(offered)))
    quota = Quota(stratum=HERE, samples=wanted, candidates=len(offered))
    assert candidates.keys_at(choose([quota], candidates, set())[HERE]) == offered[:wanted]


def test_samples_of_the_heldout_split_come_once():
    candidates = ranked([sample("k"), sample("h", Split.HELDOUT)], 0, repeats={"a": Fraction(3)})
    assert sorted(candidates.keys.to_pylist()) == ["h", "k", "k-e1", "k-e2"]


def test_a_later_pass_is_the_same_sample_under_a_key_of_its_own():
    passes = Passes({"k": sample("k"), "k-e7": sample("k-e7")})
    again = passes["k-e2"]
    assert (again.key, again.epoch) == ("k-e2", 2)
    assert again.model_copy(update={"key": "k", "epoch": 0}) == passes["k"]
    assert [passes.first(key) for key in ("k", "k-e2", "k-e7", "k-e7-e1")] == ["k", "k", "k-e7", "k-e7"]
    assert "k-e" not in passes
    with pytest.raises(KeyError):
        passes["other-e1"]


def test_keys_that_a_later_pass_would_take_from_another_sample_are_told():
    samples = {key: sample(key) for key in ("k", "k-e1")}
    with pytest.raises(ValueError, match="would give k the key k-e1 in a later pass"):
        check_apart(samples, {"a": 1})
    check_apart(samples, {})


def amounts_of(sizes: list[int], is_known: bool = True) -> Sizes:
    return Sizes(np.array(sizes, np.int64), np.full(len(sizes), is_known))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.data(), st.integers(0, 5))
def test_the_first_that_reach_a_target_are_taken_whatever_is_thought_of_the_others(sizes, data, seed):
    samples = [sample(f"k{i}") for i in range(len(sizes))]
    candidates = ranked(samples, seed)
    failed = data.draw(st.sets(st.sampled_from([s.key for s in samples])))
    alive = [row for row in candidates.of(HERE).tolist() if samples[row].key not in failed]
    target = data.draw(st.integers(0, sum(sizes[row] for row in alive)))
    quota = Quota(stratum=HERE, target=target, unit=Unit.TURNS, candidates=len(sizes))
    chosen = choose([quota], candidates, failed, amounts_of(sizes))[HERE].tolist()
    assert chosen == alive[: len(chosen)]
    assert sum(sizes[row] for row in chosen) >= target
    assert not chosen or sum(sizes[row] for row in chosen[:-1]) < target
    # Worked on wave by wave from any estimates, the choice ends at the same.
    guessed = data.draw(st.lists(st.integers(1, 30), min_size=len(sizes), max_size=len(sizes)))
    growing = Sizes(np.array(guessed, np.int64), np.zeros(len(sizes), np.bool_))
    while True:
        rows = choose([quota], candidates, failed, growing)[HERE]
        if growing.is_known[rows].all():
            break
        growing.amounts[rows] = np.array(sizes)[rows]
        growing.is_known[rows] = True
    assert rows.tolist() == chosen


def test_candidates_that_do_not_reach_a_target_are_told_once_all_are_known():
    candidates = ranked([sample(f"k{i}") for i in range(3)], 0)
    quota = Quota(stratum=HERE, target=10**10, unit=Unit.SECONDS, candidates=3)
    short = [10**9] * 3
    assert len(choose([quota], candidates, set(), amounts_of(short, is_known=False))[HERE]) == 3
    with pytest.raises(
        QuotaError, match=r"needs 10 seconds, but the 3 of its 3 .* come to 3 seconds, 7 seconds short"
    ):
        choose([quota], candidates, set(), amounts_of(short))


def test_categories_are_strata_only_where_they_have_shares_and_never_in_the_heldout_split():
    assert stratum_of(sample("k")).label == "train/video/a"
    assert stratum_of(sample("k"), {"a"}).label == "train/video/a/captioning"
    assert stratum_of(sample("k", Split.HELDOUT), {"a"}).label == "heldout/video/a"
    assert Stratum.labelled("train/video/a/captioning") == stratum_of(sample("k"), {"a"})
