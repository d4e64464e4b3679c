"""Shares of turns, tokens, seconds or bytes: what whole samples can do passes, one unit more is found."""

import json
from fractions import Fraction

import pytest
import shard_factory as made
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.audit import audit
from pipeline.audit.findings import Code
from pipeline.audit.recount import Recount
from pipeline.audit.share_checks import check_shares
from pipeline.plan.quotas import apportion
from schemas.ledger import Asked, Ledger, ShardSample
from schemas.sample import Modality
from schemas.units import Unit

UNITS = [unit for unit in Unit if unit not in (Unit.SAMPLES, Unit.LLM_TOKENS)]
"""The small mixture names no tokenizer."""


@pytest.fixture(scope="module")
def sizes(whole):
    """By unit and stratum, the measure of each sample, read from the tars by a second hand."""
    from test_audit import keys_of, of_key, read_tar

    found = {unit: {} for unit in UNITS}
    for path in (whole / "shards").glob("*.tar"):
        members = read_tar(path)
        for key in keys_of(members):
            own = of_key(members, key)
            sample = ShardSample.model_validate_json(own[0][1])
            frames = sum(len(clip.t_ns) for clip in sample.clips)
            told = {
                Unit.TURNS: len(sample.conversations),
                Unit.VISUAL_TOKENS: 16 * frames,
                Unit.SECONDS: sum(m.exclusive_end_ns for m in sample.media),
                Unit.BYTES: sum(len(data) for _, data in own),
            }
            for unit, size in told.items():
                found[unit].setdefault(f"{sample.split}/{sample.modality}/{sample.source}", []).append(size)
    return found


def asked_in(folder, unit, sizes, change=lambda rows: None):
    """Findings once the ledger asks in `unit` for what is there; `change` is made to its rows of `asked`."""
    path = folder / "ledger.json"
    ledger = json.loads(path.read_text()) | {"unit": unit}
    rows = {row["stratum"]: row for row in ledger["asked"]}
    for stratum, row in rows.items():
        row["measured"] = row["target"] = sum(sizes[unit][stratum])
    change(rows)
    train = {stratum: row["target"] for stratum, row in rows.items() if stratum.startswith("train/")}
    ledger["shares"] = {
        stratum.split("/")[1]: str(Fraction(100 * target, sum(train.values()))) for stratum, target in train.items()
    }
    path.write_text(json.dumps(ledger))
    report = audit(folder)
    return report.finding_counts, [finding.message for finding in report.findings]


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_there_passes_in_every_unit(folder, sizes, unit):
    assert asked_in(folder, unit, sizes) == ({}, [])


@pytest.mark.parametrize("unit", UNITS)
def test_a_target_is_reached_by_less_than_the_largest_sample_or_one_unit_is_found(folder, sizes, unit):
    stratum = "train/video/shapes"
    largest = max(sizes[unit][stratum])

    def over(distance):
        return lambda rows: rows[stratum].update(target=rows[stratum]["target"] - distance)

    for distance in (0, largest - 1):
        assert asked_in(folder, unit, sizes, over(distance)) == ({}, [])
    for distance in (-1, largest):
        found, messages = asked_in(folder, unit, sizes, over(distance))
        assert found == {Code.QUOTA_MISSED: 1}
        assert messages[0].startswith(f"{stratum} comes to {sum(sizes[unit][stratum])} {unit.field}")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("off", [-1, 1])
def test_a_ledger_that_measured_one_unit_else_is_found(folder, sizes, unit, off):
    stratum = "heldout/video/shapes"

    def change(rows):
        rows[stratum]["measured"] += off

    assert asked_in(folder, unit, sizes, change)[0] == {Code.QUOTA_MISSED: 1}


def test_a_stratum_that_holds_nothing_of_what_was_asked_is_found(folder, sizes):
    none = {"asked": 0, "candidates": 0, "replaced": 0, "target": 1, "measured": 0, "found": 0}

    def change(rows):
        rows["train/video/shapes"]["target"] -= 1

    path = folder / "ledger.json"
    ledger = json.loads(path.read_text())
    ledger["asked"].append({"stratum": "train/video/elsewhere", **none})
    path.write_text(json.dumps(ledger))
    sizes = {Unit.TURNS: sizes[Unit.TURNS] | {"train/video/elsewhere": [1]}}
    found, messages = asked_in(folder, Unit.TURNS, sizes, change)
    assert found[Code.QUOTA_MISSED] == 2  # it measured one, and none is there
    assert all(message.startswith("train/video/elsewhere comes to 0 turns") for message in messages[:2])


@given(
    weights=st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any), total=st.integers(1, 40), at=st.data()
)
def test_targets_pass_if_and_only_if_they_follow_the_largest_remainders(template, weights, total, at):
    shares = {modality: Fraction(weight) for modality, weight in zip(Modality, weights, strict=True)}
    lawful = apportion(total, shares)
    ledger = _asking(template, lawful, shares)
    assert list(check_shares(Recount(unit=Unit.TURNS), ledger)) == []
    giver, taker = at.draw(st.permutations([*Modality]))[:2]
    remainders = {m: total * share / sum(shares.values()) % 1 for m, share in shares.items()}
    if lawful[giver] and remainders[giver] != remainders[taker]:
        moved = {**lawful, giver: lawful[giver] - 1, taker: lawful[taker] + 1}
        codes = [code for code, *_ in check_shares(Recount(unit=Unit.TURNS), _asking(template, moved, shares))]
        assert codes == [Code.SHARE_INEXACT]


@pytest.fixture(scope="module")
def template(whole):
    return Ledger.read(whole)


def _asking(template, targets, shares):
    whole = sum(shares.values())
    rows = tuple(
        Asked(stratum=f"train/{m}/{made.source_of(m)}", asked=1, candidates=1, replaced=0, target=target)
        for m, target in targets.items()
    )
    percent = {m: 100 * share / whole for m, share in shares.items()}
    return template.model_copy(update={"unit": Unit.TURNS, "asked": rows, "shares": percent})
