"""Laws of the command: exit codes, no tracebacks, quick answers."""

import json
import resource
import subprocess
import sys

import pytest
from mini import mini_recipe, mixture, write_recipe

from flows.plan_rows import size


def test_a_recipe_mistake_is_exit_code_2_without_a_traceback(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\ntotal: 3\n")
    done = mixture("build", path)
    assert done.returncode == 2
    assert f"{path}:2: total: no such field" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "nowhere.yaml"], "no such file"),
        (["audit", "."], "holds no mixture"),
        (["quarantine", "list", "demo", "--workspace", "none"], "no build of demo yet"),
        (["build", "demo", "--workers", "0"], "--workers"),
        (["build", "demo", "--runner", "spark"], "--runner"),
        (["no-such-command"], "No such command"),
    ],
)
def test_bad_input_is_exit_code_2_and_says_what_to_do(tmp_path, arguments, words):
    done = mixture(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_quota_that_cannot_be_met_is_exit_code_1_and_names_the_source(tmp_path):
    recipe = mini_recipe(tmp_path)
    recipe["mixture"]["total"] = 90
    done = mixture("plan", write_recipe(tmp_path, recipe))
    assert done.returncode == 1, done.stderr
    assert "train/video/shapes has 30 candidates for a quota of 54, 24 short" in done.stderr
    assert "can meet is 50" in done.stderr  # 60 % of 50 is 30
    assert "Traceback" not in done.stderr


def test_a_plan_is_printed_for_people_and_for_programs(tmp_path):
    path = write_recipe(tmp_path, mini_recipe(tmp_path))
    planned = json.loads(mixture("plan", path, "--json").stdout)
    quotas = {row["stratum"]: row["quota"] for row in planned["quotas"]}
    assert quotas == {
        "train/text/own": 4,
        "train/image/own": 12,
        "train/video/shapes": 24,
        "heldout/video/shapes": 4,
    }
    shown = mixture("plan", path).stdout
    assert "train/text/own" in shown
    told = size(planned["capacity"]["feature_bytes"]["siglip"])
    assert f"features of siglip {told}" in " ".join(shown.split())
    assert "unknown: mixture calibrate" in shown


def test_measured_rates_tell_hours_and_money(tmp_path):
    path, rates = write_recipe(tmp_path, mini_recipe(tmp_path)), tmp_path / "rates.json"
    done = mixture("calibrate", path, "--out", rates)
    assert done.returncode == 0, done.stderr
    measured = json.loads(rates.read_text())
    assert all(seconds > 0 for seconds in measured["decode_core_s"].values())
    assert {name: min(unit.values()) > 0 for name, unit in measured["encode_device_s"].items()} == {
        "siglip": True,
        "internvideo2": True,
    }
    assert measured["encoders"] == {"siglip": "siglip tiny float32", "internvideo2": "internvideo2 tiny float32"}
    measured["prices"]["core_hour"] = 3600.0
    rates.write_text(json.dumps(measured))
    needed = json.loads(mixture("plan", path, "--rates", rates, "--json").stdout)["capacity"]
    clip, image = (measured["decode_core_s"][unit] for unit in ("clip", "image"))
    assert needed["cost"] == pytest.approx(needed["clips"] * clip + needed["images"] * image)
    assert "core hours of decoding" in mixture("plan", path, "--rates", rates).stdout


def test_rates_that_cannot_be_read_are_bad_input(tmp_path):
    path = write_recipe(tmp_path, mini_recipe(tmp_path))
    (tmp_path / "rates.json").write_text('{"machine": 3}')
    for name in ("rates.json", "absent.json"):
        done = mixture("plan", path, "--rates", tmp_path / name)
        assert done.returncode == 2
        assert "make them with `mixture calibrate`" in done.stderr


def test_init_writes_a_recipe_that_validates_and_never_overwrites(tmp_path):
    path = tmp_path / "recipe.yaml"
    assert mixture("init", path).returncode == 0
    assert mixture("validate", path).returncode == 0
    assert mixture("init", path).returncode == 2


@pytest.mark.parametrize(
    "arguments", [["--help"], ["validate", "demo"], ["build", "--help"], ["plan", "apollo-4m"]]
)
def test_light_commands_cost_little_more_than_their_libraries(arguments):
    """In processor time, side by side: what these libraries take to load is what the machine is worth just now."""
    libraries = [sys.executable, "-c", "import pydantic, yaml, typer, rich.console, rich.table"]
    command = [sys.executable, "-m", "flows.cli", *arguments]
    ratios = sorted(processor_seconds(command) / processor_seconds(libraries) for _ in range(5))
    assert ratios[2] < 6, ratios


def processor_seconds(command):
    """Of a whole process, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_light_commands_import_nothing_heavy():
    heavy = {"torch", "ray", "prefect", "av", "transformers", "pyarrow"}
    probe = "import sys, flows.cli, flows.recipe_file; flows.recipe_file.load_recipe('demo'); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(loaded)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["sources"][1].update(annotations="nowhere.json"), "no annotation file"),
        (lambda r: r["sources"].append({"kind": "docs", "packages": ["no_such_package"]}), "no_such_package"),
        (lambda r: r["encoders"]["siglip"].update(weights="nowhere.safetensors"), "no such file or folder"),
        (lambda r: r.update(output="."), "holds no mixture"),
    ],
)
def test_what_is_missing_is_told_without_a_traceback(tmp_path, change, words):
    recipe = mini_recipe(tmp_path)
    change(recipe)
    done = mixture("build", write_recipe(tmp_path, recipe), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_clean_removes_what_a_kill_left_beside_the_output(tmp_path):
    path = write_recipe(tmp_path, mini_recipe(tmp_path))
    (tmp_path / ".attempt-dead-out").mkdir()
    (tmp_path / ".attempt-dead-out" / "half.tar").write_bytes(b"half")
    assert "removed 1 files" in mixture("clean", path).stdout
    assert not (tmp_path / ".attempt-dead-out").exists()


@pytest.mark.parametrize(
    "modules",
    [
        "flows.tables",
        "flows.difference_tables, pipeline.audit.compare",
        "pipeline.plan.quotas, pipeline.plan.gates",
    ],
)
def test_what_plan_audit_and_status_import_is_free_of_torch_ray_and_prefect(modules):
    probe = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "ray", "prefect", "av", "transformers"} & set(loaded)


def test_a_worker_of_the_audit_that_dies_is_one_message_that_names_its_shard(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from flows.cli import app
    from pipeline.audit import audit as module
    from pipeline.audit.workers import WorkerDeathError

    def dying(*_):
        raise WorkerDeathError("shards/train-000003.tar: the worker that read it died")

    (tmp_path / "ledger.json").write_text("{}")
    monkeypatch.setattr(module, "audit", dying)
    result = CliRunner().invoke(app, ["audit", str(tmp_path)])
    assert result.exit_code == 2
    assert "train-000003.tar: the worker that read it died" in result.output
