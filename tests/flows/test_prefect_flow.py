"""Laws of the flow `build-mixture`, without a server: the command's bytes, and failures that say what to mend."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import yaml
from mini import contents, texts_only
from rich.console import Console

from flows import cli
from flows.build import opened_build
from flows.display import Display
from flows.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]


def test_the_flow_writes_the_bytes_of_the_command_and_shows_the_shares(tmp_path, serverless):
    path = texts_only(tmp_path)
    with opened_build(load_recipe(str(path)), Display(Console(quiet=True))) as build:
        build.run()
    folders = {"output": str(tmp_path / "out2"), "workspace": str(tmp_path / "workspace2")}
    state = serverless.run(str(path), **folders)
    assert state.is_completed()
    assert state.message == f"{tmp_path}/out2: audit passed, 10 samples in 1 shards"
    assert contents(tmp_path / "out2") == contents(tmp_path / "out")
    assert serverless.steps == ["ingest", "plan", "produce", "shards", "audit", "publish"]
    row = {"stratum": "train/text/own", "asked": 10, "found": 10, "share of split": "100.0 %", "replaced": 0}
    assert serverless.made["mini-shares"] == [row]
    assert f"root digest: `{build.ledger.root_sha256}`" in serverless.made["mini-summary"]


@pytest.mark.parametrize(
    ("changes", "parameters", "words"),
    [
        ({"mixture": {"total": 17, "shares": {"text": 100}}}, {}, "has 16 candidates for a quota of 17"),
        ({}, {"workers": 0}, "workers: Input should be greater than or equal to 1, got 0"),
        ({}, {"recipe": "nowhere.yaml"}, "nowhere.yaml:0: no such file"),
        ({}, {"output": "taken"}, "taken is not empty and holds no mixture"),
    ],
)  # fmt: skip
def test_a_mistake_of_the_user_fails_the_run_with_its_message(
    tmp_path, monkeypatch, serverless, changes, parameters, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("ten years of work")
    path = texts_only(tmp_path, **changes)
    state = serverless.run(**{"recipe": str(path), **parameters})
    assert state.is_failed()
    assert words in state.message


def test_a_bug_keeps_its_traceback(prefect_flow):
    with pytest.raises(ZeroDivisionError):
        prefect_flow.run_step.fn(lambda: 1 / 0)


def test_a_run_is_named_after_its_recipe_even_one_that_cannot_be_read(tmp_path, prefect_flow, monkeypatch):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: [")
    for recipe, name in {"demo": "demo", str(texts_only(tmp_path)): "mini", str(bad): "bad.yaml"}.items():
        monkeypatch.setattr(prefect_flow, "flow_run", SimpleNamespace(parameters={"recipe": recipe}))
        assert prefect_flow.run_name() == name


def test_the_deployment_takes_the_options_of_the_command(prefect_flow):
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    file, name = declared[0]["entrypoint"].split(":")
    assert ROOT / file == Path(inspect.getfile(prefect_flow.build_mixture.fn))
    assert getattr(prefect_flow, name) is prefect_flow.build_mixture
    assert f"{prefect_flow.build_mixture.name}/{declared[0]['name']}" == "build-mixture/local"
    options = set(inspect.signature(cli.build).parameters)
    assert set(inspect.signature(prefect_flow.build_mixture.fn).parameters) == options
    assert declared[0]["parameters"].keys() <= options


class Clock:
    """Stands in for the module `time`."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def progress(prefect_flow, monkeypatch):
    """Runs a step of 100 inputs with the given seconds each; gives the percents that a server was sent."""
    from prefect.logging import disable_run_logger

    from flows import pages

    clock, sent = Clock(), []
    monkeypatch.setattr(pages, "time", clock)

    def run(seconds, send=sent.append):
        monkeypatch.setattr(pages, "create_progress_artifact", lambda percent, **_: send(percent) or "made")
        monkeypatch.setattr(pages, "update_progress_artifact", lambda _, percent: send(percent))
        with (
            disable_run_logger(),
            pages.PagesDisplay("mini").progress("features (reserves, round 1)", 100) as update,
        ):
            for done in range(1, 101):
                clock.now += seconds
                update(done, 100)
        return sent

    return run


def test_progress_moves_at_most_once_a_second_and_ends_full(progress):
    sent = progress(0.25)
    assert sent == [*range(4, 101, 4), 100]


def test_a_short_step_makes_no_artifact(progress):
    assert progress(0.005) == []


def test_a_server_that_is_away_costs_moves_of_the_bar_and_not_the_build(progress):
    def away(percent):
        raise httpx.ConnectError("away")

    assert progress(0.25, away) == []
