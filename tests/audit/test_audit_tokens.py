"""LLM tokens: what a sample claims is what the tokenizer beside the ledger counts, or a finding."""

import hashlib
import json
import sys
from dataclasses import replace

import pytest
import shard_factory as made
from test_audit import FIRST, HELDOUT, edit_json, edit_ledger, keys_of, read_tar
from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline.audit import tokens
from pipeline.audit.audit import audit
from pipeline.audit.findings import Code
from pipeline.shards.writer import write_mixture
from schemas.units import Unit


def make_tokenizer(unknown="[UNK]"):
    """Words and marks of the small mixture's talk, one token each."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "What": 1, "is": 2, "in": 3, "?": 4}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def counted(packed, tokenizer):
    total = sum(len(tokenizer.encode(turn.content, add_special_tokens=False)) for turn in packed.conversation.turns)
    return replace(packed, conversation=packed.conversation.model_copy(update={"llm_tokens": total}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The small mixture with its tokens counted."""
    folder, tokenizer = tmp_path_factory.mktemp("tokens"), make_tokenizer()
    splits = {
        split: (counted(packed, tokenizer) for packed in made.samples(each, split))
        for split, each in ((made.Split.TRAIN, made.TRAIN), (made.Split.HELDOUT, made.HELDOUT))
    }
    data = tokenizer.to_str().encode()
    account = made.account().model_copy(update={"tokenizer_sha256": hashlib.sha256(data).hexdigest()})
    path = tmp_path_factory.mktemp("tokenizer") / "words.json"
    path.write_bytes(data)
    write_mixture(folder, splits, made.NAMES, made.WITH_FRAMES, account, path)
    return folder


def swap_tokenizer(folder, data):
    """Another file, and its digest in the ledger."""
    (folder / "tokenizer.json").write_bytes(data)
    return edit_ledger(folder, lambda ledger: ledger.update(tokenizer_sha256=hashlib.sha256(data).hexdigest()))


def test_tokens_as_counted_pass_and_are_told_by_every_label(whole):
    report = audit(whole)
    assert report.ok, report.findings
    assert "check_tokens" in report.checks
    total = sum(count.llm_tokens for count in report.tables["total"].values())
    records = [json.loads(data) for path in (whole / "shards").glob("*.tar") for _, data in jsons(path)]
    words = sum(len(make_tokenizer().encode(t["content"]).tokens) for r in records for t in r["conversations"])
    assert total == words > 0
    for table in ("by_modality", "by_source", "by_category", "by_licence", "by_generator", "by_annotator"):
        assert sum(count.llm_tokens for count in report.tables[table].values()) == total
    assert "LLM tokens" in (whole / "README.md").read_text()
    assert f"| {report.tables['total']['train'].llm_tokens} |" in (whole / "README.md").read_text()


def jsons(path):
    return [(name, data) for name, data in read_tar(path) if name.endswith(".json")]


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("shard", [FIRST, HELDOUT])
def test_one_token_off_is_found_with_shard_and_key(folder, shard, off):
    def change(content):
        content["llm_tokens"] += off

    found = edit_json(folder, shard, lambda content: content["modality"] == "video", change)
    assert found[Code.TOKENS_DIFFER] == 1
    (finding,) = [f for f in audit(folder).findings if f.code is Code.TOKENS_DIFFER]
    key = next(key for key in keys_of(read_tar(folder / shard)) if "-video-" in key)
    assert (finding.shard, finding.key) == (shard, key)


def test_the_report_is_the_same_for_two_workers(folder):
    edit_json(folder, FIRST, lambda content: True, lambda content: content.update(llm_tokens=0))
    assert audit(folder, 1).to_json() == audit(folder, 2).to_json()


def test_another_tokenizer_is_told_once_and_nothing_is_counted_by_it(folder):
    (folder / "tokenizer.json").write_text(make_tokenizer("What").to_str())
    report = audit(folder)
    assert report.finding_counts == {Code.TOKENIZER_CHANGED: 1}


def test_another_tokenizer_whose_digest_the_ledger_was_given_is_found_by_the_counts(folder):
    other = make_tokenizer()
    other.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert swap_tokenizer(folder, other.to_str().encode()) == {Code.TOKENS_DIFFER: 45}


def test_a_file_that_changes_between_two_audits_of_one_process_is_seen(folder):
    assert audit(folder).ok
    (folder / "tokenizer.json").write_text("{}")
    assert audit(folder).finding_counts == {Code.TOKENIZER_CHANGED: 1}


def test_without_its_file_tokens_are_unproven(folder):
    (folder / "tokenizer.json").unlink()
    assert audit(folder).finding_counts == {Code.TOKENS_UNPROVEN: 1}
    (folder / "tokenizer.json").mkdir()
    assert audit(folder).finding_counts == {Code.TOKENS_UNPROVEN: 1}


def test_a_file_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_BYTES", 10)
    assert audit(folder).finding_counts == {Code.TOKENS_UNPROVEN: 1}


def test_without_the_package_tokens_are_unproven(folder, monkeypatch):
    tokens._parsed.cache_clear()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    report = audit(folder)
    tokens._parsed.cache_clear()
    assert report.finding_counts == {Code.TOKENS_UNPROVEN: 1}
    assert "pip install tokenizers" in report.findings[0].message


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_tokenizer_leaves_tokens_unproven(folder, data):
    assert swap_tokenizer(folder, data) == {Code.TOKENS_UNPROVEN: 1}


def test_a_tokenizer_that_fails_on_a_text_is_a_finding_for_each(folder):
    failing = Tokenizer(models.WordLevel({"What": 0}))
    failing.pre_tokenizer = pre_tokenizers.Whitespace()
    assert swap_tokenizer(folder, failing.to_str().encode()) == {Code.TOKENS_UNPROVEN: 45}


def test_tokens_that_nobody_could_have_counted_are_found(folder):
    assert edit_ledger(folder, lambda ledger: ledger.update(tokenizer_sha256="")) == {Code.TOKENS_UNPROVEN: 45}


def test_a_quick_audit_says_that_it_counted_none(folder):
    (folder / "tokenizer.json").unlink()
    report = audit(folder, quick=True)
    assert report.ok
    assert "check_tokens" in report.not_checked


def test_a_share_of_tokens_is_held_to_what_the_samples_come_to(folder):
    report = audit(folder)
    ledger = json.loads((folder / "ledger.json").read_text())
    for row in ledger["asked"]:
        label = row["stratum"].rpartition("/")[0]
        row["target"] = row["measured"] = report.tables["by_modality"][label].llm_tokens
    train = {row["stratum"]: row["target"] for row in ledger["asked"] if row["stratum"].startswith("train/")}
    shares = {name.split("/")[1]: f"{100 * target}/{sum(train.values())}" for name, target in train.items()}
    change = {"unit": Unit.LLM_TOKENS, "asked": ledger["asked"], "shares": shares}
    assert edit_ledger(folder, lambda content: content.update(change)) == {}
    ledger["asked"][0]["measured"] += 1
    assert edit_ledger(folder, lambda content: content.update(change)) == {Code.QUOTA_MISSED: 1}
