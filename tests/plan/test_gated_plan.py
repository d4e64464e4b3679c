"""Laws 1, 5 and 6 with gates: nobody is lost, shares go to nobody in silence, and ranks stay."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sifting import sift

from pipeline.plan.choose import Candidates, choose, ranked, stratum_of
from pipeline.plan.quotas import QuotaError, quotas
from schemas.gates import Gate, Gates, LicenceGate
from schemas.mixture import MixtureSpec
from schemas.plan import Quota, Stratum
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample, Split


def sample(source: str, index: int, split: Split = Split.TRAIN) -> Sample:
    return Sample(
        key=f"{source}-{split}-{index}",
        source=source,
        modality=Modality.VIDEO,
        category=Category.CAPTIONING,
        split=split,
        media=(MediaRef(kind="video", path=f"{source}-{split}-{index}.mp4"),),
        annotations=(Caption(text=f"words {index}"),),
        licence="CC0-1.0",
        annotator=Generator(name="human"),
    )


def stratum(source: str, modality: Modality = Modality.VIDEO, split: Split = Split.TRAIN) -> Stratum:
    return Stratum(split=split, modality=modality, source=source)


def spec(total: int, **more) -> MixtureSpec:
    return MixtureSpec(total=total, shares={"text": "10", "video": "90"}, **more)


def gated(gates: Gates) -> MixtureSpec:
    return spec(1, licences=gates.licences, annotators=gates.annotators)


LICENCES = st.sampled_from(["MIT", "CC-BY-4.0", "CC-BY-NC-4.0", "MIT AND CC-BY-NC-4.0"])
ANNOTATORS = st.sampled_from(["human", "gpt-4o", "llama-3"])
GATES = Gates(licences=LicenceGate(deny=["*-NC-*"]), annotators=Gate(deny=["gpt-4*"]))
STRICT = Gates(licences=LicenceGate(allow=["MIT"]), annotators=Gate(allow=["human"]))


def labelled(index: int, licence: str, annotator: str, source: str = "a") -> Sample:
    return sample(source, index).model_copy(update={"licence": licence, "annotator": Generator(name=annotator)})


@given(st.lists(st.tuples(LICENCES, ANNOTATORS), max_size=40), st.sampled_from([GATES, STRICT, Gates()]))
def test_a_gate_loses_nobody_and_tells_each_that_it_bars_once(terms, gates):
    came = [labelled(index, *each) for index, each in enumerate(terms)]
    entered, barred = sift(came, gated(gates))
    assert len(entered) + sum(row.samples for row in barred) == len(came)
    assert entered == [one for one in came if one in entered]
    for one in came:
        is_let_in = gates is STRICT and (one.licence, one.annotator.name) == ("MIT", "human")
        is_let_in |= gates is GATES and "-NC-" not in one.licence and one.annotator.name != "gpt-4o"
        assert (one in entered) == (is_let_in or gates.is_open)


@given(st.lists(st.tuples(LICENCES, ANNOTATORS), min_size=20, max_size=40), st.integers(0, 9))
def test_a_gate_changes_no_rank_among_those_that_it_lets_in(terms, seed):
    came = [labelled(index, *each) for index, each in enumerate(terms)]
    entered, _ = sift(came, gated(GATES))
    before, after = ranked(came, seed), ranked(entered, seed)
    alive = {one.key for one in entered}
    assert [key for key in keys_of(before) if key in alive] == keys_of(after)


def keys_of(candidates: Candidates) -> list[str]:
    return candidates.keys_at(candidates.of(stratum("a")))


def test_what_is_barred_is_told_by_stratum_and_reason():
    terms = [("MIT", "human"), ("CC-BY-NC-4.0", "gpt-4o"), ("CC-BY-NC-4.0", "human"), ("MIT", "gpt-4o")]
    came = [labelled(index, *each) for index, each in enumerate(terms)]
    _, barred = sift([*came, labelled(9, "MIT", "gpt-4o", "b")], gated(GATES))
    assert [tuple(row.model_dump().values()) for row in barred] == [
        ("train/video/a", "annotator", "gpt-4o", 1),
        ("train/video/a", "licence", "CC-BY-NC-4.0", 2),
        ("train/video/b", "annotator", "gpt-4o", 1),
    ]


def test_a_quota_that_a_gate_leaves_short_says_so():
    terms = [("MIT", "human")] * 3 + [("CC-BY-NC-4.0", "human")] * 5 + [("MIT", "gpt-4o")] * 2
    entered, barred = sift([labelled(index, *each) for index, each in enumerate(terms)], gated(GATES))
    found = Counter(map(stratum_of, entered)) | {stratum("docs", Modality.TEXT): 9}
    told = (
        r"train/video/a has 3 candidates for a quota of 9, 6 short \(the gates bar 7 more: "
        r"licence 'CC-BY-NC-4.0' 5, annotator 'gpt-4o' 2\)\..* can meet is 3"
    )
    with pytest.raises(QuotaError, match=told):
        quotas(spec(10), found, barred)
    assert next(q for q in quotas(spec(3), found, barred) if q.stratum.source == "a").barred == 7


def test_a_source_that_is_barred_whole_falls_short_and_hands_its_share_to_nobody():
    came = [labelled(index, "CC-BY-NC-4.0", "human") for index in range(5)]
    entered, barred = sift([*came, *(sample("b", index) for index in range(20))], gated(GATES))
    found = Counter(map(stratum_of, entered)) | {stratum("docs", Modality.TEXT): 9}
    with pytest.raises(QuotaError, match=r"train/video/a has 0 .* bar 5 more.* weight of 0 leaves out"):
        quotas(spec(10), found, barred)
    by_label = {q.stratum.label: q.samples for q in quotas(spec(10, weights={"a": 0}), found, barred)}
    assert by_label == {"train/text/docs": 1, "train/video/a": 0, "train/video/b": 9}


def test_heldout_quotas_say_what_a_gate_bars():
    far = [sample("a", i, split=Split.HELDOUT).model_copy(update={"licence": "CC-BY-NC-4.0"}) for i in range(4)]
    _, barred = sift(far, gated(GATES))
    found = {stratum("docs", Modality.TEXT): 9, stratum("a"): 9}
    with pytest.raises(QuotaError, match=r"heldout/video/a has 0 .* 2 short \(the gates bar 4 more"):
        quotas(spec(10, heldout_total=2), found, barred)


def test_used_up_reserves_say_what_a_gate_bars():
    candidates = ranked([sample("a", i) for i in range(2)], 0)
    with pytest.raises(QuotaError, match=r"2 short \(7 more are barred by the recipe's gates\)\. See why"):
        choose([Quota(stratum=stratum("a"), samples=4, candidates=2, barred=7)], candidates, set())
