"""The share checks against brute force: the definitions, spelled out slowly."""

from collections import Counter
from fractions import Fraction
from itertools import permutations

import pytest
import shard_factory as made
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.findings import Code
from pipeline.audit.recount import Recount, ShardFound
from pipeline.audit.share_checks import check_prefixes, check_shard_shares, check_shares, prefix_deviations
from pipeline.plan.apportion import apportion
from pipeline.plan.order import interleave
from schemas.ledger import Asked
from schemas.sample import Modality, Split

MODALITIES = tuple(Modality)
counts = st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any)


@pytest.fixture(scope="module")
def promise(tmp_path_factory):
    """A ledger that asks for `quotas` by `shares`."""
    template = made.build(tmp_path_factory.mktemp("mixture"))

    def make(quotas, shares=None):
        rows = [
            Asked(stratum=f"train/{modality}/any", asked=quota, candidates=quota, replaced=0)
            for modality, quota in zip(MODALITIES, quotas, strict=True)
        ]
        weights = dict(zip(MODALITIES, shares or quotas, strict=True))
        whole = Fraction(sum(weights.values()))
        percent = {modality: 100 * weight / whole for modality, weight in weights.items()}
        return template.model_copy(update={"asked": tuple(rows), "shares": percent})

    return make


def recounted(order):
    recount = Recount()
    recount.order[Split.TRAIN] = bytearray(MODALITIES.index(modality) for modality in order)
    return recount


def in_any_order(quotas):
    return [modality for modality, quota in zip(MODALITIES, quotas, strict=True) for _ in range(quota)]


@given(weights=counts, total=st.integers(1, 40), moved=st.permutations(range(4)))
def test_shares_pass_if_and_only_if_they_follow_the_largest_remainders(promise, weights, total, moved):
    shares = {modality: Fraction(weight) for modality, weight in zip(MODALITIES, weights, strict=True)}
    lawful = {
        tuple(apportion(total, {m: shares[m] for m in order})[m] for m in MODALITIES)
        for order in permutations(shares)
    }
    quotas = list(next(iter(lawful)))
    assert list(check_shares(recounted(in_any_order(quotas)), promise(quotas, weights))) == []
    source, target = moved[:2]
    if quotas[source]:
        quotas[source] -= 1
        missing = promise([*quotas[:source], quotas[source] + 1, *quotas[source + 1 :]], weights)
        assert [code for code, *_ in check_shares(recounted(in_any_order(quotas)), missing)] == [Code.SHARE_INEXACT]
        quotas[target] += 1
        found = list(check_shares(recounted(in_any_order(quotas)), promise(quotas, weights)))
        assert (found == []) == (tuple(quotas) in lawful)


@given(data=st.data(), quotas=counts)
def test_prefixes_pass_if_and_only_if_each_is_within_one_sample(promise, data, quotas):
    order = data.draw(st.permutations(in_any_order(quotas)))
    total, worst = len(order), {}
    for index, modality in enumerate(MODALITIES):
        off = [abs(order[:n].count(modality) - Fraction(n * quotas[index], total)) for n in range(1, total + 1)]
        worst[f"train/{modality}"] = max(off)
    recount, ledger = recounted(order), promise(quotas)
    assert {label: deviation for label, (deviation, _) in prefix_deviations(recount, ledger).items()} == worst
    found = [message.split()[0] for _, message, _ in check_prefixes(recount, ledger)]
    assert found == [label for label, deviation in worst.items() if deviation >= 1]


@given(quotas=counts)
def test_the_plans_order_passes(promise, quotas):
    order = list(interleave(dict(zip(MODALITIES, quotas, strict=True))))
    assert list(check_prefixes(recounted(order), promise(quotas))) == []


@given(quotas=counts, some=counts)
def test_shards_pass_if_and_only_if_each_is_within_two_samples(promise, quotas, some):
    modalities = Counter(dict(zip(MODALITIES, some, strict=True)))
    shard = ShardFound("shards/train-000000.tar", "0" * 64, 0, Counter(samples=sum(some)), modalities)
    recount = Recount(shards=[shard])
    off = [
        modality
        for modality, quota in zip(MODALITIES, quotas, strict=True)
        if abs(modalities[modality] - Fraction(sum(some) * quota, sum(quotas))) >= 2
    ]
    found = list(check_shard_shares(recount, promise(quotas)))
    assert [code for code, *_ in found] == [Code.SHARD_OFF_SHARE] * len(off)
