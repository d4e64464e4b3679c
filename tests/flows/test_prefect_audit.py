"""The audit on the Prefect pages: an artifact whether it passes or fails, and a run that fails with it."""

import inspect
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import shard_factory as made
import yaml
from mini import contents, texts_only, write_recipe

from flows import build as building
from flows.audit_page import audit_page
from flows.build import opened_build
from flows.cli import app
from flows.recipe_file import load_recipe
from pipeline.audit.audit import audit
from pipeline.audit.findings import Code, Finding

ROOT = Path(__file__).parents[2]
HOSTILE = "a `b` | <script>\n# c"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    where = tmp_path_factory.mktemp("mixtures") / "small"
    made.build(where)
    return where


@pytest.fixture
def audit_flow(prefect_flow, monkeypatch):
    """The flow's function with each task called as the plain function it is; gives the artifacts made."""
    from prefect.logging import disable_run_logger

    from flows import audit_mixture, pages

    pages_made = {}
    for name in ("recount", "tell_apart"):
        monkeypatch.setattr(audit_mixture, name, getattr(audit_mixture, name).fn)
    monkeypatch.setattr(
        pages, "create_markdown_artifact", lambda data, key, description: pages_made.update({key: data})
    )
    with disable_run_logger():
        yield SimpleNamespace(run=audit_mixture.audit_mixture.fn, made=pages_made, module=audit_mixture)


def damaged(folder):
    """One film's licence is gone; gives where."""
    from test_audit_tables import changed

    changed(folder, lambda ledger: ledger.update(gates={"licences": {"deny": ["CC-BY-*"]}}))
    return next(finding for finding in audit(folder).findings)


def failing(folder):
    """In place of the audit of a build: it finds one thing."""
    report = audit(folder)
    finding = Finding(code=Code.TEXT_UNBOUND, shard="shards/train-000000.tar", key="some-key", message=HOSTILE)
    return report.model_copy(update={"findings": (finding,), "finding_counts": {Code.TEXT_UNBOUND: 1}})


def test_a_sound_mixture_completes_with_its_root_and_leaves_the_page(whole, audit_flow):
    state = audit_flow.run(str(whole))
    assert state.is_completed()
    assert state.message == f"{whole}: audit passed, 45 samples in 5 shards"
    page = audit_flow.made["small-audit"]
    assert page.startswith("**Audit passed, 45 samples")
    assert "| train/text | 5 | 5 | 12.500 % | 12 % |" in page
    assert "| heldout/video | 5 | 5 | 100.000 % |  |" in page
    assert "| train/video | 16 | 62 | 0 | 2,048 | 32 | 128 |" in page


def test_a_finding_fails_the_run_and_stands_on_the_page_with_shard_and_key(whole, tmp_path, audit_flow):
    folder = shutil.copytree(whole, tmp_path / "barred")
    finding = damaged(folder)
    state = audit_flow.run(str(folder))
    assert state.is_failed()
    assert "licence_barred 10" in state.message
    page = audit_flow.made["barred-audit"]
    assert page.startswith("**Audit failed, 10 findings")
    assert f"1. **licence_barred** `{finding.shard}` `{finding.key}`: `licence 'CC-BY-4.0'" in page


def test_against_another_the_page_says_what_changed(whole, tmp_path, audit_flow):
    other = shutil.copytree(whole, tmp_path / "other")
    state = audit_flow.run(str(whole), against=str(other))
    assert state.is_completed()
    assert f"the other, {other}: passed" in state.message
    assert "Nothing: the same tars" in audit_flow.made["small-audit"]
    damaged(other)
    assert audit_flow.run(str(whole), against=str(other)).is_completed()
    assert audit_flow.run(str(other), against=str(whole)).is_failed()


@pytest.mark.parametrize("against", [False, True])
def test_a_folder_without_a_mixture_fails_with_its_message(whole, tmp_path, audit_flow, against):
    state = audit_flow.run(str(whole), against=str(tmp_path)) if against else audit_flow.run(str(tmp_path))
    assert state.is_failed()
    assert f"{tmp_path} holds no mixture" in state.message
    assert audit_flow.made == {}


def test_a_quick_audit_says_so_on_the_page(whole, audit_flow):
    audit_flow.run(str(whole), quick=True)
    assert "no proof" in audit_flow.made["small-audit"]
    assert "root digest" not in audit_flow.made["small-audit"]


def test_strangers_words_are_no_markup(whole):
    page = audit_page(failing(whole), "x")
    (line,) = [line for line in page.splitlines() if "some-key" in line]
    assert line == "1. **text_unbound** `shards/train-000000.tar` `some-key`: `a 'b' | <script> # c`"


def test_the_deployment_takes_the_flows_parameters(audit_flow):
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (one,) = [each for each in declared if "audit_mixture" in each["entrypoint"]]
    file, name = one["entrypoint"].split(":")
    flow = getattr(audit_flow.module, name)
    assert ROOT / file == Path(inspect.getfile(flow.fn))
    assert f"{flow.name}/{one['name']}" == "audit-mixture/local"
    assert one["parameters"].keys() <= inspect.signature(flow.fn).parameters.keys()


def test_a_build_whose_audit_fails_leaves_the_page_and_the_sound_mixture_where_it_was(
    tmp_path,
    serverless,
    monkeypatch,
):
    path = texts_only(tmp_path)
    assert serverless.run(str(path)).is_completed()
    assert serverless.made["mini-audit"].startswith("**Audit passed")
    before = contents(tmp_path / "out")
    changed = yaml.safe_load(path.read_text()) | {"seed": 4}
    monkeypatch.setattr(building, "audit", failing)
    state = serverless.run(str(write_recipe(tmp_path, changed)))
    assert state.is_failed()
    assert "text_unbound 1" in state.message
    assert f"{tmp_path / 'out'} is left as it was" in state.message
    assert "`shards/train-000000.tar` `some-key`" in serverless.made["mini-audit"]
    assert contents(tmp_path / "out") == before


def test_the_command_says_where_a_mixture_lies_that_was_not_published(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    path = texts_only(tmp_path)
    monkeypatch.setattr(building, "audit", failing)
    done = CliRunner().invoke(app, ["build", str(path)])
    assert done.exit_code == 1
    assert not (tmp_path / "out").exists()
    (ledger,) = (tmp_path / "workspace" / "shards").glob("*/ledger.json")
    said = "".join(done.output.split())
    assert f"notpublished:{tmp_path / 'out'}isleftasitwas" in said
    assert str(ledger.parent) in said
    (report,) = (tmp_path / "workspace" / "report").glob("*/report.html")
    assert str(report) in said
    assert json.loads(ledger.read_text())["recipe"] == "mini"
    monkeypatch.undo()
    with opened_build(load_recipe(str(path)), building.Display(_quiet())) as running:
        running.run()
    assert running.folder == tmp_path / "out"
    assert audit(tmp_path / "out").ok


def _quiet():
    from rich.console import Console

    return Console(quiet=True)
