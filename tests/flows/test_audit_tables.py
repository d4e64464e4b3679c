"""What a terminal shows of an audit: every unit in 100 columns, each finding in a block that fits its width."""

import json

import pytest
import shard_factory as made
from typer.testing import CliRunner

from flows.audit_tables import INDENT, UNITS, cells, finding_lines
from flows.cli import app
from pipeline.audit.audit import audit
from schemas.ledger import Count

LARGE = {
    "samples": 3_800_000, "turns": 22_812_345, "llm_tokens": 1_234_567_890, "visual_tokens": 9_876_543_210,
    "clips": 51_234_567, "frames": 204_938_268, "media_ns": 28_000 * 3_600 * 10**9, "bytes": 91_234_567_890_123,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    where = tmp_path_factory.mktemp("mixture")
    made.build_with_column(where)
    return where / "mixture"


def shown(folder, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    return CliRunner().invoke(app, ["audit", str(folder), "--workers", "1"]).output.splitlines()


def changed(folder, change):
    path = folder / "ledger.json"
    ledger = json.loads(path.read_text())
    change(ledger)
    path.write_text(json.dumps(ledger))
    return folder


def test_every_unit_is_shown_by_modality_source_category_and_encoder(whole, monkeypatch):
    lines = shown(whole, 100, monkeypatch)
    assert max(map(len, lines)) <= 100
    for name in ("modality", "source", "category", "encoder"):
        head = next(line for line in lines if line.startswith(f"split/{name}"))
        assert " ".join(head.split()) == f"split/{name} {' '.join(UNITS)}"
    video = next(line for line in lines if line.startswith("train/video"))
    assert video.split()[1:7] == ["16", "62", "0", "2,048", "32", "128"]


def test_no_label_is_cut_in_a_terminal_of_eighty_columns(whole, monkeypatch):
    lines, wide = shown(whole, 80, monkeypatch), shown(whole, 100, monkeypatch)
    assert max(map(len, lines)) <= 80
    labels = {line.split()[0] for line in wide if "/" in line.split(" ")[0]}
    assert "heldout/temporal_perception" in labels
    assert labels <= {line.split()[0] for line in lines if line}
    assert " ".join(lines).split() == " ".join(wide).split()  # the same words and numbers, in the same order


def test_the_counts_of_millions_of_samples_fit_beside_the_longest_category():
    told = cells(Count(**LARGE))
    assert told == ("3,800,000", "22.81 M", "1.235 G", "9.877 G", "51.23 M", "204.9 M", "28,000", "91.23 T")
    assert len("heldout/temporal_perception") + sum(2 + len(cell) for cell in told) <= 100
    assert len(INDENT) + sum(2 + max(map(len, pair)) for pair in zip(told, UNITS, strict=True)) - 2 <= 80


def test_a_program_is_told_all_tables_and_shards(whole):
    told = json.loads(CliRunner().invoke(app, ["audit", str(whole), "--json"]).output)
    ledger = json.loads((whole / "ledger.json").read_text())
    by = ("modality", "source", "category", "licence", "generator", "annotator", "encoder")
    for table in ("total", *(f"by_{name}" for name in by)):
        assert told["tables"][table] == ledger[table]
        assert ledger[table]
    assert told["by_shard"] == {shard["name"]: shard["count"] for shard in ledger["shards"]}


def test_a_finding_is_a_block_of_lines_that_fit(tmp_path, monkeypatch):
    made.build(tmp_path)
    changed(tmp_path, lambda ledger: ledger["shards"][0]["count"].update(clips=0, frames=0, turns=0, media_ns=1))
    lines = shown(tmp_path, 80, monkeypatch)
    at = lines.index("counts_differ  shards/train-000000.tar")
    assert lines[at - 1] == "Findings"
    block = lines[at + 1 : lines.index("", at)]
    assert len(block) > 1
    assert all(line.startswith("    ") and len(line) <= 80 for line in block)
    (finding,) = audit(tmp_path).findings
    assert " ".join(" ".join(block).split()) == finding.message


def test_findings_that_are_only_counted_are_told_as_a_number(tmp_path):
    made.build(tmp_path)
    changed(tmp_path, lambda ledger: ledger.update(fps="4"))
    report = audit(tmp_path)
    short = report.model_copy(update={"findings": report.findings[:3]})
    left = sum(report.finding_counts.values()) - 3
    assert list(finding_lines(short, 80))[-2:] == [f"and {left} more of the same codes", ""]
