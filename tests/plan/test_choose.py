"""Law 6: stable choice, against a plain reference: sort the hashes, take the first that are alive."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan import choose as module
from pipeline.plan.choose import best_first, choose, rank, rank_hash, ranked, stratum_of
from pipeline.plan.quotas import QuotaError, quotas
from schemas.mixture import MixtureSpec
from schemas.plan import Quota, Stratum
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample, Split

KEYS = st.lists(st.text("abcdefghij0123456789_-", min_size=1, max_size=80), unique=True, max_size=40)


def sample(source: str, index: int, modality: Modality = Modality.VIDEO, split: Split = Split.TRAIN) -> Sample:
    media = {
        Modality.TEXT: (),
        Modality.IMAGE: (MediaRef(kind="image", path="a.png"),),
        Modality.MULTI_IMAGE: (MediaRef(kind="image", path="a.png"), MediaRef(kind="image", path="b.png")),
        Modality.VIDEO: (MediaRef(kind="video", path="a.mp4"),),
    }
    return Sample(
        key=f"{source}-{split}-{modality}-{index}", source=source, modality=modality, split=split,
        category=Category.CAPTIONING, media=media[modality], annotations=(Caption(text="words"),),
        licence="CC0-1.0", annotator=Generator(name="human"),
    )  # fmt: skip


def stratum(source: str, modality: Modality = Modality.VIDEO, split: Split = Split.TRAIN) -> Stratum:
    return Stratum(split=split, modality=modality, source=source)


def wanted(samples: int, *sources: str) -> list[Quota]:
    return [Quota(stratum=stratum(source), samples=samples, candidates=50) for source in sources]


def chosen_keys(quotas, candidates, failed=frozenset()):
    return {s: candidates.keys_at(rows) for s, rows in choose(quotas, candidates, failed).items()}


def plainly(quotas, samples, seed, failed):
    """The definition, a key at a time."""
    found = {}
    for quota in quotas:
        keys = [s.key for s in samples if stratum_of(s) == quota.stratum and s.key not in failed]
        found[quota.stratum] = sorted(keys, key=lambda key: rank_hash(seed, key))[: quota.samples]
    return found


@given(KEYS, st.integers(0, 2**63), st.sampled_from(["choose", "order"]))
def test_columns_are_ranked_as_keys_are_one_by_one(keys, seed, purpose):
    order = best_first(pa.array(keys, pa.large_string()), seed, purpose)
    assert [keys[i] for i in order] == sorted(keys, key=lambda key: rank_hash(seed, key, purpose))


def test_ranks_do_not_depend_on_how_many_keys_are_hashed_at_once(monkeypatch):
    keys = [f"k{i}" for i in range(100)]
    column = pa.array(keys, pa.large_string())
    monkeypatch.setattr(module, "CHUNK", 7)
    assert [keys[i] for i in best_first(column, 5)] == sorted(keys, key=lambda key: rank_hash(5, key))


def test_ranks_are_those_of_the_first_release():
    """What was chosen once must be chosen for ever: these were printed by the first version."""
    assert rank_hash(7, "a-1").hex() == "7698a2633dd15121807bbbfe82f36c7b"
    candidates = ranked([sample("a", i) for i in range(8)], seed=7)
    assert [key[-1] for key in candidates.keys_at(candidates.of(stratum("a")))] == list("70162543")


@given(st.data(), st.integers(0, 9))
@settings(max_examples=60)
def test_the_choice_is_that_of_the_definition_with_any_quotas_strata_and_failures(data, seed):
    sizes = data.draw(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 15), min_size=1))
    samples = [sample(source, i) for source, size in sizes.items() for i in range(size)]
    data.draw(st.randoms(use_true_random=False)).shuffle(samples)
    failed = data.draw(st.sets(st.sampled_from([s.key for s in samples]))) if samples else set()
    alive = {source: sum(s.source == source and s.key not in failed for s in samples) for source in sizes}
    asked = [
        Quota(stratum=stratum(source), samples=data.draw(st.integers(0, most)), candidates=sizes[source])
        for source, most in alive.items()
    ]
    assert chosen_keys(asked, ranked(samples, seed), failed) == plainly(asked, samples, seed, failed)


@given(st.sets(st.integers(0, 39), max_size=20), st.randoms(use_true_random=False))
def test_failed_candidates_are_replaced_alike_in_whatever_order_they_fail(failures, rng):
    candidates = ranked([sample("a", i) for i in range(40)], seed=1)
    keys = [sample("a", i).key for i in failures]
    at_once = chosen_keys(wanted(20, "a"), candidates, set(keys))
    rng.shuffle(keys)
    failed: set[str] = set()
    for key in keys:
        failed.add(key)
        one_by_one = chosen_keys(wanted(20, "a"), candidates, failed)
    assert not keys or one_by_one == at_once
    assert len(at_once[stratum("a")]) == 20
    first = chosen_keys(wanted(20, "a"), candidates)[stratum("a")]
    assert [k for k in first if k not in failed] == [k for k in at_once[stratum("a")] if k in first]


@given(st.integers(0, 2**32), st.integers(0, 9))
@settings(max_examples=25)
def test_with_a_fifth_of_the_media_failing_in_any_order_shares_are_exact_and_the_choice_one(luck, seed):
    """Candidates fail as they are worked on, wave after wave; whom a wave meets first is luck."""
    samples = [sample(source, i) for source in "ab" for i in range(200)]
    bad = {s.key for s in samples if random.Random(f"{seed}{s.key}").random() < 0.2}
    candidates, asked = ranked(samples, seed), [*wanted(60, "a"), *wanted(120, "b")]
    failed: set[str] = set()
    rng = random.Random(luck)
    while met := sorted(bad & set().union(*chosen_keys(asked, candidates, failed).values())):
        failed.update(rng.sample(met, rng.randint(1, len(met))))
    found = chosen_keys(asked, candidates, failed)
    assert {s.source: len(keys) for s, keys in found.items()} == {"a": 60, "b": 120}
    assert found == plainly(asked, samples, seed, bad)


@given(st.integers(1, 100), st.integers(0, 9))
@settings(max_examples=30)
def test_raising_the_total_by_a_tenth_keeps_every_earlier_sample(tens, seed):
    samples = [sample("a", i) for i in range(100)] + [sample("d", i, Modality.TEXT) for i in range(100)]
    candidates = ranked(samples, seed)

    def keys(total: int) -> set[str]:
        spec = MixtureSpec(total=total, shares={"text": 50, "video": 50})
        return set().union(*chosen_keys(quotas(spec, candidates.counts()), candidates).values())

    few, more = keys(tens), keys(tens + -(-tens // 10))
    assert few <= more
    assert len(more) == tens + -(-tens // 10)


@given(st.integers(0, 30), st.integers(0, 9), st.randoms(use_true_random=False))
def test_adding_a_source_keeps_the_choice_in_the_others(added, seed, rng):
    few = [sample("a", i) for i in range(50)]
    more = few + [sample("b", i) for i in range(added)]
    rng.shuffle(more)
    before = chosen_keys(wanted(10, "a"), ranked(few, seed))
    after = chosen_keys(wanted(10, "a"), ranked(more, seed))
    assert after == before


def test_another_seed_makes_another_choice():
    samples = [sample("a", i) for i in range(50)]
    assert ranked(samples, 1).of(stratum("a")).tolist() != ranked(samples, 2).of(stratum("a")).tolist()


def test_used_up_reserves_say_who_falls_short_and_by_how_many():
    candidates = ranked([sample("a", i) for i in range(5)], 0)
    failed = set(candidates.keys_at(candidates.of(stratum("a"))[:2]))
    with pytest.raises(QuotaError, match=r"train/video/a needs 4 .* only 3 of its 5 .* 1 short"):
        choose([Quota(stratum=stratum("a"), samples=4, candidates=5)], candidates, failed)


def test_columns_and_samples_are_the_same_candidates():
    samples = [sample(source, i) for i in range(20) for source in "ab"]
    columns = pa.array([s.key for s in samples], pa.large_string()), np.array([0, 1] * 20, np.uint16)
    found, same = rank(*columns, [stratum("a"), stratum("b")], 3), ranked(samples, 3)
    assert found.keys == same.keys
    assert {s: rows.tolist() for s, rows in found.rows.items()} == {s: r.tolist() for s, r in same.rows.items()}


def test_of_no_candidates_none_are_chosen():
    nobody = ranked([], 0)
    assert nobody.counts() == {}
    assert nobody.longest_key == ""
    assert chosen_keys([Quota(stratum=stratum("a"), samples=0, candidates=0)], nobody) == {stratum("a"): []}
