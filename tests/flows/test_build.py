"""Laws of a whole build: exact shares, conservation, and the same bytes however it is run."""

import json
import shutil
import tarfile

import pytest
import webdataset
import yaml
from mini import contents, environment, mini_recipe, mixture, write_recipe

from pipeline.audit.audit import audit


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """One mini mixture, built by the local runner."""
    folder = tmp_path_factory.mktemp("mini")
    path = write_recipe(folder, mini_recipe(folder))
    done = mixture("build", path, env=environment())
    assert done.returncode == 0, done.stderr
    return folder


def ledger_of(folder):
    return json.loads((folder / "out" / "ledger.json").read_text())


def test_the_shares_are_exactly_as_asked(built):
    found = {label: count["samples"] for label, count in ledger_of(built)["by_modality"].items()}
    assert found == {"train/text": 4, "train/image": 12, "train/video": 24, "heldout/video": 4}


def test_every_input_is_accounted_for_from_ingest_to_shards(built):
    flows = {flow["stage"]: flow for flow in ledger_of(built)["flows"]}
    assert flows["ingest"]["inputs"] == 30 + 6 + 16 + 16
    assert flows["ingest"]["outputs"] == flows["plan"]["inputs"]
    assert flows["plan"]["outputs"] == flows["conversations"]["inputs"]
    assert flows["conversations"]["outputs"] == flows["decode"]["inputs"]
    assert flows["features"]["outputs"] == 44


def test_the_audit_finds_nothing_wrong(built):
    report = audit(built / "out")
    assert report.ok, report.findings


def test_the_ledger_tells_what_stored_features_lost(built):
    (name,), (loss,) = zip(*ledger_of(built)["storage_loss"].items(), strict=True)
    assert name == "internvideo2"
    assert 0.3 < loss["cosine"] < 0.999
    assert 0.01 < loss["relative_error"] < 0.95
    assert "mean cosine" in (built / "out" / "README.md").read_text()


def test_the_plan_told_the_bytes_of_the_columns(built):
    planned = json.loads(mixture("plan", built / "recipe.yaml", "--json").stdout)["capacity"]
    members = []
    for path in (built / "out" / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            members += tar.getmembers()
    for name, told in planned["feature_bytes"].items():
        assert told == sum(m.size for m in members if m.name.endswith((f".{name}.npy", f".{name}.scale.npy")))
    assert planned["frame_bytes"] == sum(m.size for m in members if m.name.endswith(".frames.npy"))


def test_the_tars_open_with_plain_webdataset(built):
    urls = sorted(str(path) for path in (built / "out" / "shards").glob("train-*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert len(samples) == 40
    film = next(sample for sample in samples if sample["json"]["modality"] == "video")
    assert film["siglip.npy"].ndim == 5
    assert film["siglip.npy"].dtype == film["internvideo2.scale.npy"].dtype == "float16"
    assert film["internvideo2.npy"].dtype == "int8"
    assert film["internvideo2.npy"].shape[2:] == (2, 2, 64)
    assert [turn["role"] for turn in film["json"]["conversations"][:2]] == ["user", "assistant"]
    text = next(sample for sample in samples if sample["json"]["modality"] == "text")
    assert text["siglip.npy"].shape[0] == 0


def test_random_weights_are_labelled_wherever_they_are_shown(built):
    out = built / "out"
    assert all(encoder["weights"].startswith("RANDOM") for encoder in ledger_of(built)["encoders"])
    assert "RANDOM" in (out / "README.md").read_text()
    assert "RANDOM" in (out / "report.html").read_text()


def test_nothing_in_the_output_names_a_folder_of_this_machine(built):
    for name, data in contents(built / "out").items():
        assert str(built).encode() not in data, name


def test_a_build_that_is_run_again_changes_nothing(built):
    before = contents(built / "out")
    assert mixture("build", built / "recipe.yaml", env=environment()).returncode == 0
    assert contents(built / "out") == before


def test_a_lost_output_is_made_again_from_the_workspace(built):
    before = contents(built / "out")
    shutil.rmtree(built / "out")
    assert mixture("build", built / "recipe.yaml", env=environment()).returncode == 0
    assert contents(built / "out") == before


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_with_any_number_of_workers_gives_the_local_bytes(built, tmp_path, workers):
    options = [
        "--runner",
        "ray",
        "--workers",
        workers,
        "--workspace",
        tmp_path / "ws",
        "--output",
        tmp_path / "out",
    ]
    done = mixture("build", built / "recipe.yaml", *options, env=environment())
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(built / "out")


def test_a_folder_that_holds_something_else_is_not_overwritten(built, tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    done = mixture("build", built / "recipe.yaml", "--output", tmp_path, env=environment())
    assert done.returncode == 2
    assert "holds no mixture" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


def test_clean_removes_the_remains_of_killed_runs_and_no_finished_work(built):
    remains = built / "workspace" / "features" / ".attempt-dead-00000.arrow"
    remains.write_bytes(b"half")
    before = contents(built / "workspace")
    done = mixture("clean", built / "recipe.yaml")
    assert "removed 1 files" in done.stdout
    after = contents(built / "workspace")
    assert before.keys() - after.keys() == {str(remains.relative_to(built / "workspace"))}


def test_damage_to_the_output_is_mended_by_the_next_build(built):
    before = contents(built / "out")
    tar = built / "out" / "shards" / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[5000] ^= 1
    tar.write_bytes(data)
    assert mixture("audit", built / "out").returncode == 1
    assert mixture("build", built / "recipe.yaml", env=environment()).returncode == 0
    assert contents(built / "out") == before


def test_training_on_a_mixture_of_another_recipe_is_refused(built, tmp_path):
    changed = yaml.safe_load((built / "recipe.yaml").read_text())
    changed["encoders"]["siglip"]["seed"] = 5
    done = mixture("train", write_recipe(tmp_path, changed))
    assert done.returncode == 2
    assert "built from another recipe" in done.stderr


def test_status_labels_random_weights_and_counts_the_text(built):
    shown = mixture("status", built / "recipe.yaml").stdout
    assert "siglip: weights RANDOM seed=0" in shown
    assert "text share: 4 of 40 = 10 %, asked 10 %" in shown
