"""Law 5: every prefix holds its shares; checked place by place, in integers, by the law's own words."""

from itertools import combinations_with_replacement, product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.plan import fair
from pipeline.plan.choose import rank_hash
from pipeline.plan.fair import StuckError, fair_turns
from pipeline.plan.order import interleave, place
from schemas.plan import Stratum
from schemas.sample import Modality, Split

TIGHT = (
    ((2, 122), (4, 4), (96, 3), (4,)),
    ((3, 35), (4,), (2, 105, 2), (1,)),
    ((2, 173), (7,), (3, 10), (8,), (153, 5), (1, 99), (2,), (6, 9)),
    ((86, 53), (220, 1), (1, 1627, 1013), (3,)),
    ((389, 1), (920, 805, 1), (4,), (1, 884)),
)
"""Mixes that the earliest deadline alone gets stuck in."""

steep = st.lists(
    st.lists(st.one_of(st.integers(1, 4), st.integers(1, 300)), min_size=1, max_size=4), min_size=2, max_size=4
)
mixes = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=5), min_size=1, max_size=4)


def worst(labels, quotas):
    """The greatest |count * total - places * quota| over all prefixes and groups: under total is within one."""
    places = np.arange(1, len(labels) + 1)
    off = [np.abs(np.cumsum(labels == group) * len(labels) - places * quota) for group, quota in quotas.items()]
    return int(np.max(off, initial=0))


def strata(groups):
    return dict(enumerate(quota for group in groups for quota in group))


def group_of(groups):
    return np.array([index for index, group in enumerate(groups) for _ in group])


@given(st.lists(st.integers(0, 60), min_size=1, max_size=7))
def test_every_prefix_holds_every_group_within_one_sample(counts):
    labels = np.array(list(interleave(dict(enumerate(counts)))), int)
    assert len(labels) == sum(counts)
    assert worst(labels, dict(enumerate(counts))) < max(1, sum(counts))


@given(mixes | steep)
@example(TIGHT[0])
@example(TIGHT[1])
@example(TIGHT[2])
@example(TIGHT[3])
@example(TIGHT[4])
def test_every_prefix_holds_every_group_and_every_stratum_within_one_sample(groups):
    turns = fair_turns(groups)
    assert worst(turns, strata(groups)) < len(turns)
    assert worst(group_of(groups)[turns], {g: sum(quotas) for g, quotas in enumerate(groups)}) < len(turns)


def small_mixes(most):
    """All mixes of up to so many samples in 3 to 5 strata and at most 3 groups."""
    for strata_of in range(3, 6):
        for quotas in combinations_with_replacement(range(most, 0, -1), strata_of):
            if sum(quotas) <= most:
                for split in product(range(3), repeat=strata_of):
                    # Groups are named in the order in which they come: no mix twice by other names.
                    if list(dict.fromkeys(split)) == list(range(len(set(split)))):
                        yield [[q for q, g in zip(quotas, split, strict=True) if g == own] for own in set(split)]


def test_every_small_mix_has_a_fair_order():
    found = 0
    for groups in small_mixes(14):
        turns = fair_turns(groups)
        assert worst(turns, strata(groups)) < len(turns)
        assert worst(group_of(groups)[turns], {g: sum(quotas) for g, quotas in enumerate(groups)}) < len(turns)
        found += 1
    assert found == 5134


@pytest.mark.parametrize("groups", [mix for mix in TIGHT if len(mix) <= len(Modality)])
def test_where_no_search_is_made_a_tight_mix_is_stuck_and_its_groups_still_within_one(groups, monkeypatch):
    monkeypatch.setattr(fair, "BACK", ())
    with pytest.raises(StuckError, match="no fair order"):
        fair_turns(groups)
    chosen, keys = chosen_of(groups)
    labels = np.searchsorted(np.cumsum(list(strata(groups).values())), place(chosen, keys, 0), side="right")
    assert worst(group_of(groups)[labels], {g: sum(quotas) for g, quotas in enumerate(groups)}) < len(labels)
    assert worst(labels, strata(groups)) < 2 * len(labels)


def chosen_of(groups):
    """Rows of each stratum, numbered through."""
    chosen, first = {}, 0
    for group, modality in zip(groups, Modality, strict=False):
        for quota in group:
            name = Stratum(split=Split.TRAIN, modality=modality, source=f"s{len(chosen)}")
            chosen[name] = np.arange(first, first + quota, dtype=np.int32)
            first += quota
    return chosen, pa.array([f"k{row}" for row in range(first)], pa.large_string())


@given(mixes, st.integers(0, 9))
@settings(max_examples=60)
def test_every_chosen_row_has_one_position_and_a_stratum_keeps_its_hash_order(groups, seed):
    chosen, keys = chosen_of(groups)
    placed = place(chosen, keys, seed)
    assert sorted(placed.tolist()) == list(range(len(keys)))
    for rows in chosen.values():
        own = [keys[int(row)].as_py() for row in placed if row in rows]
        assert own == sorted(own, key=lambda key: rank_hash(seed, key, "order"))


@given(mixes, st.integers(0, 9))
@settings(max_examples=60)
def test_placed_strata_and_modalities_are_within_one_sample_in_every_prefix(groups, seed):
    chosen, keys = chosen_of(groups)
    code = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen.values()])
    labels = code[place(chosen, keys, seed)]
    assert worst(labels, strata(groups)) < len(labels)
    of = np.array([list(Modality).index(s.modality) for s in chosen])
    assert worst(of[labels], {m: int((of[labels] == m).sum()) for m in range(4)}) < len(labels)


def test_a_stratum_of_no_samples_takes_no_place_and_no_strata_none():
    chosen, keys = chosen_of([[2]])
    nobody = Stratum(split=Split.TRAIN, modality=Modality.TEXT, source="none")
    assert sorted(place({nobody: np.empty(0, np.int32), **chosen}, keys, 0).tolist()) == [0, 1]
    assert place({nobody: np.empty(0, np.int32)}, keys, 0).tolist() == []
    assert place({}, keys, 0).tolist() == []
