"""The quick audit: what it sees, what it cannot see, and that it says so."""

import json

import numpy as np
import pytest
import test_audit
from test_audit import FIRST, SECOND, _changed_array, keys_of, launder, of_key, read_tar, resealed, write_tar
from typer.testing import CliRunner

from flows.cli import app
from pipeline.audit.audit import audit
from pipeline.audit.findings import Code
from pipeline.audit.mixture_checks import MIXTURE_CHECKS
from pipeline.audit.sample_checks import SAMPLE_CHECKS
from pipeline.audit.scan import ShardScan

UNSEEN = {"check_tokens", "check_feature_shapes", "check_finite", "check_frames", "check_shards", "check_root"}


def quick(folder):
    return audit(folder, quick=True).finding_counts


def test_it_counts_what_the_full_audit_counts(whole):
    full, fast = audit(whole), audit(whole, quick=True)
    assert fast.ok
    assert fast.tables == full.tables == {name: getattr(full.ledger, name) for name in full.tables}
    assert fast.prefix_deviations == full.prefix_deviations


def test_it_names_every_check_that_it_leaves_out_and_no_root(whole):
    full, fast = audit(whole), audit(whole, quick=True)
    every = {check.__name__ for check in (*SAMPLE_CHECKS, *MIXTURE_CHECKS)}
    assert full.checks.keys() == every
    assert not full.not_checked
    assert fast.not_checked.keys() == UNSEEN
    assert fast.checks.keys() == every - UNSEEN | {"check_shard_sizes"}
    assert all(fast.not_checked.values())
    assert fast.root_sha256 is None


def test_nobody_takes_it_for_the_proof(whole):
    fast = audit(whole, quick=True)
    assert "no proof" in fast.verdict
    assert json.loads(fast.to_json())["quick"] is True
    assert json.loads(audit(whole).to_json())["quick"] is False
    shown = CliRunner().invoke(app, ["audit", str(whole), "--quick", "--workers", "1"])
    assert shown.exit_code == 0
    assert "no proof" in " ".join(shown.output.split())
    assert set(shown.output.replace("│", " ").split()) >= UNSEEN
    assert "no proof" not in CliRunner().invoke(app, ["audit", str(whole), "--workers", "1"]).output


def test_it_reads_no_array(whole, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        ShardScan,
        "_glance",
        lambda scan, at, size, glance=ShardScan._glance: sizes.append(size) or glance(scan, at, size),
    )
    audit(whole, quick=True)
    held = sum(path.stat().st_size for path in (whole / "shards").glob("*.tar"))
    read = {name: len(data) for path in (whole / "shards").glob("*.tar") for name, data in read_tar(path)}
    arrays = sum(size for name, size in read.items() if name.endswith(".npy"))
    assert 0 < sum(sizes) <= held - arrays


@pytest.mark.parametrize("change", [lambda members: members[5:], lambda members: [*members, *members[:5]]])
def test_a_sample_missing_or_doubled_is_found(folder, change):
    write_tar(folder / FIRST, change(read_tar(folder / FIRST)))
    launder(folder)
    assert {Code.COUNTS_DIFFER, Code.QUOTA_MISSED} <= quick(folder).keys()


def test_members_in_another_order_are_found(folder):
    members = read_tar(folder / FIRST)
    write_tar(folder / FIRST, [members[0], members[2], members[1], *members[3:]])
    assert quick(folder) == {Code.MEMBERS_DIFFER: 1}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c["conversations"][1].update(content="Another."), Code.TEXT_UNBOUND),
        (lambda c: c["clips"][0]["t_ns"].__setitem__(1, 400_000_000), Code.JSON_INVALID),
        (lambda c: c.update(licence=" "), Code.LICENCE_EMPTY),
        (lambda c: (c["conversations"].reverse(), resealed(c)), Code.ROLES_BROKEN),
    ],
)
def test_a_false_word_in_a_json_is_found(folder, change, code, monkeypatch):
    monkeypatch.setattr(test_audit, "audit", lambda folder: audit(folder, quick=True))
    assert test_audit.edit_json(folder, FIRST, test_audit.is_modality("video"), change)[code] == 1


@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_a_tar_cut_short_is_found(folder, keep):
    data = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes(data[: int(len(data) * keep)])
    found = quick(folder)
    assert found[Code.TAR_DAMAGED] == found[Code.SHARD_CHANGED] == 1


def test_a_tar_lost_and_one_too_many_are_found(folder):
    (folder / SECOND).rename(folder / "shards/train-000009.tar")
    found = quick(folder)
    assert found[Code.SHARD_MISSING] == found[Code.SHARD_UNKNOWN] == 1


def test_a_nan_passes_it_which_is_why_it_is_no_proof(folder):
    def nan(array):
        array[..., 0] = np.nan
        return array

    members = read_tar(folder / FIRST)
    key = next(key for key in keys_of(members) if "-video-" in key)
    name = of_key(members, key)[1][0]
    write_tar(folder / FIRST, [(n, _changed_array(d, nan) if n == name else d) for n, d in members])
    assert quick(folder) == {}
    assert audit(folder).finding_counts.keys() == {Code.FEATURE_NOT_FINITE, Code.SHARD_CHANGED, Code.ROOT_CHANGED}
