"""Samples of equal content: found wherever they lie, and told from declared later passes over a source."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_audit import FIRST, HELDOUT, SECOND, keys_of, launder, of_key, read_tar, resealed, write_tar

from pipeline.audit.audit import audit
from pipeline.audit.findings import KEPT_A_CODE, Code
from pipeline.audit.repeats import ROW, repeats, row
from schemas.ledger import ShardSample
from schemas.sample import Split

MISCOUNTED = {Code.COUNTS_DIFFER, Code.QUOTA_MISSED, Code.SHARE_INEXACT, Code.PREFIX_OFF_SHARE}
"""What a sample too many is found by as well."""
CODES = (Code.DUPLICATE, Code.DUPLICATE_ACROSS_SPLITS, Code.EPOCH_WITHOUT_ORIGINAL)


def of_modality(folder, shard, modality="video"):
    """The first sample of that kind: its JSON."""
    records = (json.loads(data) for name, data in read_tar(folder / shard) if name.endswith(".json"))
    return next(record for record in records if record["modality"] == modality)


def renamed(folder, shard, key, new, **changes):
    """The members of that sample under another key, sealed anew as an honest hand would."""
    members = []
    for name, data in of_key(read_tar(folder / shard), key):
        if name.endswith(".json"):
            content = json.loads(data) | {"key": new, **changes}
            resealed(content)
            data = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        members.append((f"{new}.{name.partition('.')[2]}", data))
    return members


def found(folder, shard, *groups, quick=False):
    """Findings on repeats once these members stand behind those of `shard`: code, shard, key, message."""
    write_tar(folder / shard, [*read_tar(folder / shard), *(member for group in groups for member in group)])
    launder(folder)
    report = audit(folder, quick=quick)
    assert set(report.finding_counts) <= {*CODES, *MISCOUNTED, Code.HELDOUT_LEAKED}
    return [(f.code, f.shard, f.key, f.message) for f in report.findings if f.code in CODES]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("modality", ["video", "image", "multi_image", "text"])
def test_equal_media_and_turns_under_two_keys_are_found_with_shard_and_key_of_both(folder, modality, quick):
    key = of_modality(folder, FIRST, modality)["key"]
    ((code, shard, again, message),) = found(folder, SECOND, renamed(folder, FIRST, key, "again"), quick=quick)
    assert (code, shard, again) == (Code.DUPLICATE, SECOND, "again")
    assert f"{key} in {FIRST}" in message


def test_they_are_found_across_splits(folder):
    key = of_modality(folder, FIRST)["key"]
    ((code, shard, again, message),) = found(folder, HELDOUT, renamed(folder, FIRST, key, "again", split="heldout"))
    assert (code, shard, again) == (Code.DUPLICATE_ACROSS_SPLITS, HELDOUT, "again")
    assert f"{key} in {FIRST}" in message


def turned(content):
    content["conversations"][0]["content"] += " Now?"


def longer(content):
    content["media"][0]["exclusive_end_ns"] += 1


def other(content):
    content["media"][0]["sha256"] = "0" * 64


@pytest.mark.parametrize("change", [turned, longer, other])
def test_another_turn_span_or_medium_is_another_sample(folder, change):
    record = of_modality(folder, FIRST)
    change(record)
    changes = {field: record[field] for field in ("conversations", "media")}
    assert found(folder, SECOND, renamed(folder, FIRST, record["key"], "again", **changes)) == []


def test_the_end_of_the_file_is_one_span_however_it_is_told(folder):
    record = of_modality(folder, FIRST)
    whole = [{**record["media"][0], "exclusive_end_ns": 0}]
    told = [{**record["media"][0], "exclusive_end_ns": record["media"][0]["duration_ns"]}]
    groups = [renamed(folder, FIRST, record["key"], f"again-{n}", media=m) for n, m in enumerate((whole, told))]
    assert [defect[:3] for defect in found(folder, SECOND, *groups)] == [(Code.DUPLICATE, SECOND, "again-1")]


def test_a_declared_later_pass_is_no_duplicate(folder):
    key = of_modality(folder, FIRST)["key"]
    passes = [renamed(folder, FIRST, key, f"{key}-e{n}", epoch=n) for n in (2, 1)]
    assert found(folder, SECOND, *passes) == []


def test_a_pass_that_is_not_declared_is_a_duplicate(folder):
    key = of_modality(folder, FIRST)["key"]
    again = renamed(folder, FIRST, key, f"{key}-e1")
    assert [defect[:3] for defect in found(folder, SECOND, again)] == [(Code.DUPLICATE, SECOND, f"{key}-e1")]


def test_a_pass_without_the_one_between_is_found(folder):
    key = of_modality(folder, FIRST)["key"]
    ((code, shard, late, message),) = found(folder, SECOND, renamed(folder, FIRST, key, f"{key}-e2", epoch=2))
    assert (code, shard, late) == (Code.EPOCH_WITHOUT_ORIGINAL, SECOND, f"{key}-e2")
    assert message.startswith("pass 2 ")


def test_a_pass_of_other_content_than_its_original_is_found(folder):
    record = of_modality(folder, FIRST)
    turned(record)
    late = renamed(
        folder, FIRST, record["key"], f"{record['key']}-e1", epoch=1, conversations=record["conversations"]
    )
    assert [defect[0] for defect in found(folder, SECOND, late)] == [Code.EPOCH_WITHOUT_ORIGINAL]


def test_a_pass_in_another_split_than_its_original_is_found(folder):
    key = of_modality(folder, FIRST)["key"]
    late = renamed(folder, FIRST, key, f"{key}-e1", epoch=1, split="heldout")
    assert [defect[:3] for defect in found(folder, HELDOUT, late)] == [
        (Code.EPOCH_WITHOUT_ORIGINAL, HELDOUT, f"{key}-e1")
    ]


@pytest.mark.parametrize("epoch", [1, 10**30])
def test_an_epoch_that_its_key_does_not_tell_is_found(folder, epoch):
    key = of_modality(folder, FIRST)["key"]
    codes = [defect[0] for defect in found(folder, SECOND, renamed(folder, FIRST, key, "again", epoch=epoch))]
    assert codes == [Code.EPOCH_WITHOUT_ORIGINAL, Code.DUPLICATE]


def test_a_row_has_its_size_and_its_kind(whole):
    data = next(data for name, data in read_tar(whole / FIRST) if name.endswith(".json"))
    sample = ShardSample.model_validate_json(data)
    (one,) = np.frombuffer(row(sample), ROW)
    (third,) = np.frombuffer(row(sample.model_copy(update={"key": f"{sample.key}-e3", "epoch": 3})), ROW)
    assert len(row(sample)) == ROW.itemsize == 36
    assert (one["epoch"], third["epoch"]) == (0, 3)
    assert (one["origin"] == third["origin"]).all()
    assert (one["content"] == third["content"]).all()


passes = st.lists(
    st.tuples(
        st.sampled_from([*Split]), st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from([0, 0, 1, 2, 3])
    ),
    max_size=12,
    unique_by=lambda each: (each[2], each[3]),
)


@given(passes)
def test_repeats_are_those_of_the_definition(drawn):
    """Brute force: split, content, origin and epoch of each sample, its key its origin and epoch."""
    drawn = sorted(drawn, key=lambda each: [*Split].index(each[0]))
    contents = dict.fromkeys(Split, b"")
    keys, expected = {}, []
    for number, (split, content, origin, epoch) in enumerate(drawn):
        key = f"{origin}-e{epoch}" if epoch else origin
        keys[key] = f"tar {number}"
        contents[split] += _row(content, key, epoch)
        earlier = [each for each in drawn[:number] if each[1] == content and each[3] == 0]
        if epoch and not all((split, content, origin, before) in drawn for before in range(epoch)):
            expected.append((Code.EPOCH_WITHOUT_ORIGINAL, key))
        elif not epoch and any(each[0] == split for each in earlier):
            expected.append((Code.DUPLICATE, key))
        elif not epoch and earlier:
            expected.append((Code.DUPLICATE_ACROSS_SPLITS, key))
    seen = [(code, key) for code, _, shard, key in repeats(contents, keys) if shard == keys[key]]
    assert sorted(seen) == sorted(expected)
    for code in CODES:  # in the order of the tars
        assert [each for each in seen if each[0] is code] == [each for each in expected if each[0] is code]


def _row(content, key, epoch):
    blank = {"licence": "x", "annotator": {"name": "x"}, "generator": {"name": "x"}}
    digests = {"binding_sha256": "0" * 64, "text_sha256": "0" * 64}
    kinds = {"source": "s", "modality": "text", "category": "reasoning", "split": "train"}
    turns = [{"role": role, "content": content} for role in ("user", "assistant")]
    return row(ShardSample(key=key, epoch=epoch, conversations=turns, **blank, **digests, **kinds))


def test_a_mixture_of_nothing_but_equal_samples_is_told_in_a_moment():
    rows = np.zeros(1_000_000, ROW)
    rows["origin"][:, 0] = np.arange(len(rows))
    told = list(repeats({Split.TRAIN: rows[:600_000].tobytes(), Split.HELDOUT: rows[600_000:].tobytes()}, {}))
    assert [each[0] for each in told] == [Code.DUPLICATE] * (599_999 + 399_999) + [Code.DUPLICATE_ACROSS_SPLITS]


def test_names_are_looked_up_for_as_many_as_a_log_keeps():
    rows = b"".join(_row("same", f"key-{number}", 0) for number in range(KEPT_A_CODE + 50))
    keys = {f"key-{number}": "a tar" for number in range(KEPT_A_CODE + 50)}
    told = list(repeats({Split.TRAIN: rows}, keys))
    assert [key for *_, key in told[:KEPT_A_CODE]] == [f"key-{n + 1}" for n in range(KEPT_A_CODE)]
    assert len(told) == KEPT_A_CODE + 49


def test_a_doubled_key_is_no_duplicate_of_itself(folder):
    members = read_tar(folder / FIRST)
    write_tar(folder / FIRST, [*members, *of_key(members, keys_of(members)[0])])
    launder(folder)
    counts = audit(folder).finding_counts
    assert counts[Code.KEY_TWICE] == 1
    assert Code.DUPLICATE not in counts
