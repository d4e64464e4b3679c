"""Bad data: each planted fault is a Rejection with its reason, and the shares stay exact."""

import json

import pytest
from mini import TALK, environment, mini_recipe, mixture, write_recipe
from PIL import Image

from pipeline.ingest.shapes.render import render
from pipeline.ingest.shapes.scene import draw_film, stream
from pipeline.shards.reader import ShardReader
from schemas.sample import Split

PLANTED = {
    "truncated": "truncated",
    "empty": "empty_file",
    "text-file": "not_media",
    "missing": "missing_file",
    "wrong-type": "bad_annotation",
}


def plant(folder):
    """Ten good films and five bad ones, in LLaVA form."""
    films = folder / "films"
    films.mkdir(parents=True)
    good = render(draw_film(stream(1, Split.TRAIN, 0, "scene")))
    rows = []
    for index in range(10):
        (films / f"{index}.mp4").write_bytes(good)
        talk = [{**TALK[0], "value": f"What is film {index}?"}, TALK[1]]  # no duplicates
        rows.append({"id": f"good {index}", "video": f"{index}.mp4", "conversations": talk})
    (films / "truncated.mp4").write_bytes(good[: len(good) * 2 // 3])
    (films / "empty.mp4").write_bytes(b"")
    (films / "text-file.mp4").write_text("this is no film\n" * 200)
    rows += [{"id": name, "video": f"{name}.mp4", "conversations": TALK} for name in list(PLANTED)[:4]]
    rows.append({"id": "wrong-type", "video": "0.mp4", "conversations": "What is it?"})
    (films / "annotations.json").write_text(json.dumps(rows))
    return films


@pytest.fixture
def recipe(tmp_path):
    films = plant(tmp_path)
    data = mini_recipe(tmp_path)
    own = {**data["sources"][1], "name": "films"}
    own |= {"annotations": str(films / "annotations.json"), "media_root": str(films)}
    data["sources"] = [data["sources"][1], own]
    data["mixture"] = {"total": 20, "shares": {"text": 10, "image": 40, "video": 50}}
    return data


def rejected(path):
    return json.loads(mixture("quarantine", "list", path, "--json").stdout)


def test_each_fault_is_a_rejection_with_its_reason_and_the_shares_stay_exact(tmp_path, recipe):
    path = write_recipe(tmp_path, {**recipe, "budgets": {"ingest": 0.5, "features": 0.5}})
    done = mixture("build", path, env=environment())
    assert done.returncode == 0, done.stderr
    found = rejected(path)
    reasons = {name: [r["reason"] for r in found if f"films-{name}" in r["key"]] for name in PLANTED}
    assert {"truncated", "empty", "text-file", "missing", "wrong-type"} == reasons.keys()
    assert len(found) == 5
    for name, reason in PLANTED.items():
        assert len(reasons[name]) == 1, (name, found)
        allowed = {reason, "not_media"} if name == "truncated" else {reason}
        assert reasons[name][0] in allowed, (name, found)
    assert all(r["where"] and r["detail"] for r in found)
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    counts = {label: count["samples"] for label, count in ledger["by_modality"].items()}
    assert counts == {"train/text": 2, "train/image": 8, "train/video": 10}
    came, planned = ledger["flows"][0], ledger["flows"][1]
    refused = sum(flow["rejected"] for flow in ledger["flows"])
    assert came["inputs"] == 20 + refused + planned["filtered"]  # nothing is lost
    human = mixture("quarantine", "list", path).stdout
    assert all(reason in human for reason in ("empty_file", "missing_file", "bad_annotation"))
    published = (tmp_path / "out" / "rejections.jsonl").read_text()
    assert published.count("\n") == 5
    assert str(tmp_path) not in published, "no folder of this machine is told on"


def test_past_the_budget_the_run_fails_with_exit_code_1_and_says_what_was_refused(tmp_path, recipe):
    path = write_recipe(tmp_path, recipe)
    done = mixture("build", path, env=environment())
    assert done.returncode == 1
    assert "more than the budget of 5.0%" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert len(rejected(path)) >= 4


def test_a_film_that_fails_in_decode_is_replaced_by_the_next_reserve(tmp_path, recipe):
    recipe["mixture"] = {"total": 10, "shares": {"image": 50, "video": 50}}
    films = tmp_path / "films"
    # A fault that no header tells of: the index and the first pictures are whole, the middle is noise.
    whole = (films / "0.mp4").read_bytes()
    start = len(whole) // 2
    for index in (1, 2, 3, 4):
        noise = bytes((byte * 7 + 13) % 256 for byte in range(256)) * 4
        (films / f"{index}.mp4").write_bytes(whole[:start] + noise + whole[start + len(noise) :])
    path = write_recipe(tmp_path, {**recipe, "budgets": {"ingest": 0.5, "features": 0.5}})
    done = mixture("build", path, env=environment())
    assert done.returncode == 0, done.stderr
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert ledger["by_modality"]["train/video"]["samples"] == 5
    asked = next(row for row in ledger["asked"] if row["stratum"] == "train/video/films")
    decoded = next(flow for flow in ledger["flows"] if flow["stage"] == "decode")
    assert decoded["rejected"] >= asked["replaced"] > 0  # a reserve may fail as well


@pytest.mark.slow
def test_media_that_are_put_right_are_looked_at_again(tmp_path, recipe):
    path = write_recipe(tmp_path, recipe)
    assert mixture("build", path, env=environment()).returncode == 1
    films = tmp_path / "films"
    for name in ("truncated", "empty", "text-file", "missing"):
        (films / f"{name}.mp4").write_bytes((films / "0.mp4").read_bytes())
    annotations = json.loads((films / "annotations.json").read_text())
    (films / "annotations.json").write_text(json.dumps(annotations[:-1]))
    done = mixture("build", path, env=environment())
    assert done.returncode == 0, done.stderr
    assert rejected(path) == []


@pytest.mark.slow
def test_a_changed_medium_is_decoded_anew_and_its_digest_with_it(tmp_path, recipe):
    recipe["mixture"] = {"total": 10, "shares": {"image": 100}}
    path = write_recipe(tmp_path, recipe | {"budgets": {"ingest": 0.5}})
    assert mixture("build", path, env=environment()).returncode == 0
    before = json.loads((tmp_path / "out" / "ledger.json").read_text())["root_sha256"]
    for index in range(16):
        Image.new("RGB", (30, 20 + index), (index, 9, 9)).save(tmp_path / "own" / f"{index}.png")
    assert mixture("build", path, env=environment()).returncode == 0
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["root_sha256"] != before
    stored = ShardReader(tmp_path / "out", "train").read(0, [])
    assert stored.sample.media[0].width == 30
