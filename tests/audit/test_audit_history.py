"""Laws of the audit on changed mixtures: looser bounds are earned by a history, and a false history is found."""

from fractions import Fraction

import pytest
import shard_factory as made
from test_audit import edit_ledger
from test_audit_shares import recounted

from pipeline.audit.audit import audit
from pipeline.audit.findings import Code
from pipeline.audit.mixture_checks import check_prefixes, check_shard_shares
from pipeline.audit.recount import Recount, ShardFound
from schemas.ledger import KEPT_PREFIX_BOUND, Change
from schemas.sample import Modality, Split

CHANGE = Change(
    recipe_sha256="1" * 64, root_sha256="2" * 64, kept=40, added=5, removed=5, moved=2,
    shards_kept=3, shards_rewritten=1, shards_new=1, shards_gone=0,
).model_dump(mode="json")  # fmt: skip


def amended(content):
    """The account of the 45 samples, as if 40 of them had been kept: of five shards one is new."""
    content["history"] = [dict(CHANGE)]
    content["flows"] = [
        {"stage": "ingest", "inputs": 50, "outputs": 50, "rejected": 0},
        {"stage": "plan", "inputs": 50, "outputs": 7, "rejected": 0, "filtered": 43, "kept": 40},
        {"stage": "conversations", "inputs": 7, "outputs": 7, "rejected": 0},
        {"stage": "decode", "inputs": 7, "outputs": 7, "rejected": 0},
        {"stage": "features", "inputs": 7, "outputs": 5, "rejected": 2},
    ]


@pytest.fixture
def folder(tmp_path):
    made.build(tmp_path)
    return tmp_path


def test_kept_samples_close_the_account(folder):
    assert edit_ledger(folder, amended) == {}
    assert "check_history" in audit(folder).checks


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c["flows"][1].update(kept=39), Code.FLOW_LEAKS),
        (lambda c: c["flows"][4].update(outputs=4, rejected=3), Code.FLOW_LEAKS),
        (lambda c: c["flows"][1].update(kept=44), Code.FLOW_LEAKS),
        (lambda c: c["history"].clear(), Code.HISTORY_BELIED),
        (lambda c: c["history"][0].update(kept=41, added=4), Code.HISTORY_BELIED),
        (lambda c: c["history"][0].update(added=6), Code.HISTORY_BELIED),
        (lambda c: c["history"][0].update(moved=41), Code.HISTORY_BELIED),
        (lambda c: c["history"][0].update(shards_new=0), Code.HISTORY_BELIED),
    ],
)
def test_a_false_word_about_a_change_is_found(folder, change, code):
    assert edit_ledger(folder, lambda c: (amended(c), change(c)))[code] >= 1


def test_more_kept_and_barred_than_were_filtered_is_found(folder):
    def one_too_many(content):
        amended(content)
        content["flows"][0].update(inputs=46, outputs=46)
        content["flows"][1].update(inputs=46, filtered=39)

    assert edit_ledger(folder, one_too_many) == {Code.FLOW_LEAKS: 1}


def test_a_history_loosens_the_bound_of_prefixes_and_shards_unless_the_order_is_fresh(folder):
    ledger = made.build(folder / "again").model_copy(update={"asked": ()})
    rows = made.account({Modality.TEXT: 8, Modality.VIDEO: 8}, {}).asked
    changed = Change.model_validate(CHANGE)
    fresh = changed.model_copy(update={"reordered": (Split.TRAIN,)})
    ledgers = [ledger.model_copy(update={"asked": rows, "history": h}) for h in ((), (changed,), (changed, fresh))]
    orders = {
        Fraction(1, 2): "tvtvtvtvtvtvtvtv",
        Fraction(1): "ttvvtvtvtvtvtvtv",
        Fraction(2): "ttttvvvvtvtvtvtv",
        Fraction(5, 2): "tttttvvvvvtvtvtv",
    }
    for off, order in orders.items():
        recount = recounted([Modality.TEXT if letter == "t" else Modality.VIDEO for letter in order])
        found = [bool(list(check_prefixes(recount, each))) for each in ledgers]
        assert found == [off >= 1, off >= KEPT_PREFIX_BOUND, off >= 1]
    for texts, of in ((5, 8), (6, 8), (8, 8), (10, 10)):
        counts = {Modality.TEXT: texts, Modality.VIDEO: of - texts}
        shard = ShardFound("shards/train-000000.tar", "0" * 64, 0, {"samples": of}, counts | dict.fromkeys(
            set(Modality) - counts.keys(), 0))  # fmt: skip
        off = texts - Fraction(of, 2)
        found = [bool(list(check_shard_shares(Recount(shards=[shard]), each))) for each in ledgers]
        assert found == [off >= 2, off >= 5, off >= 2]
