"""Laws of a mixture that is changed: what stays is not touched; the chosen are those of a build from nothing."""

import json
import random
import shutil
import tarfile
from copy import deepcopy
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mini import contents, mini_recipe, write_llava, write_recipe
from rich.console import Console
from test_build_columns import marks
from test_kills import kill_after
from typer.testing import CliRunner

from flows.build import Build
from flows.cli import app
from flows.display import Display
from flows.recipe_file import load_recipe, settle
from pipeline.audit.audit import audit
from pipeline.runtime.local import LocalRunner
from schemas.ledger import Ledger

COLUMN = "internvideo2"
TOLD = {
    "ledger.json", "README.md", "report.html", "talks.html", "rejections.jsonl",
    "index.parquet", f"index.{COLUMN}.parquet",
    "shardindex-train.json", "shardindex-heldout.json", ".nv-meta/.info.json", ".nv-meta/split.yaml",
}  # fmt: skip
"""Files that tell what a mixture holds, and change with it."""


def base_recipe(folder):
    """The mini recipe, smaller, with one column, tars of five, and a source whose licence no other has."""
    data = mini_recipe(folder)
    data["sources"][0] |= {"videos": 20, "heldout": 3}
    data["mixture"] |= {"total": 24, "heldout_total": 2}
    data["encoders"][COLUMN]["store"]["place"] = "column"
    data["shards"]["samples_per_shard"] = 5
    lone = str(write_llava(folder / "lone", pictures=2, texts=0, width=61))
    data["sources"].append(llava(folder, "lone", lone, licence="LicenseRef-Lone"))
    data["mixture"]["weights"] = {"lone": "1/6", "own": 1}
    return data


def llava(folder, name, annotations, **changes):
    terms = {"licence": "CC0-1.0", "annotator": "human"}
    media = {"annotations": annotations, "media_root": str(folder / name)}
    return {"kind": "llava", "name": name, **media, **terms, **changes}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("amend")


@pytest.fixture(scope="module")
def data(home):
    return base_recipe(home)


@pytest.fixture(scope="module")
def base(home, data):
    """A finished mixture, and its workspace."""
    folder = home / "base"
    folder.mkdir()
    build(data, folder)
    return folder


def run(data, folder, *options):
    places = ["--workspace", folder / "ws", "--output", folder / "out"]
    return CliRunner().invoke(app, ["build", str(write_recipe(folder, data)), *map(str, [*places, *options])])


def build(data, folder, *options):
    done = run(data, folder, *options)
    assert done.exit_code == 0, done.output
    return done.output


def keys(folder):
    return pq.read_table(folder / "index.parquet", columns=["key"])["key"].to_pylist()


def rows(folder):
    return pq.read_table(folder / "index.parquet", columns=["split", "key"]).to_pylist()


def tars_of(folder):
    """Train tars by their keys."""
    table = pq.read_table(folder / "index.parquet", columns=["shard", "key"])
    found = {}
    for row in table.to_pylist():
        found.setdefault(row["shard"], []).append(row["key"])
    return found


def changed(base, home, data, name, **mixture):
    """A copy of the base that is changed. Returns its folder, and the files of the output before."""
    folder = home / name
    shutil.copytree(base, folder, copy_function=shutil.copy2)
    before = marks(folder / "out")
    recipe = deepcopy(data)
    recipe["mixture"] |= mixture
    build(recipe, folder, "--amend")
    assert audit(folder / "out").ok, audit(folder / "out").findings
    return folder, before, recipe


def touched(before, folder):
    """Tars that are not the very files they were. A tar's `.idx` may be the old one: offsets follow from sizes."""
    after = marks(folder / "out")
    names = {name for name in before.keys() | after.keys() if after.get(name) != before.get(name)} - TOLD
    assert all(name.endswith((".tar", ".tar.idx", ".parquet")) for name in names)
    return {name for name in names if name.endswith(".tar")}


def fresh(base, data, folder):
    """Built by the same recipe from what was ingested, and nothing else."""
    for name in ("media", "ingest"):
        shutil.copytree(base / "ws" / name, folder / "ws" / name)
    build(data, folder)
    return folder


def tars(*numbers, split="train"):
    return {f"shards/{split}-{number:06d}{end}.tar" for number in numbers for end in ("", f".{COLUMN}")}


@pytest.fixture(scope="module")
def taken_down(base, home, data):
    """One sample's licence is denied; its source has a weight for one sample, which goes to its neighbour."""
    return changed(base, home, data, "taken", licences={"deny": ["LicenseRef-Lone"]}, weights={"lone": 0})


def test_a_takedown_rewrites_one_shard_and_its_columns_and_touches_nothing_else(base, taken_down):
    folder, before, _ = taken_down
    old, new = rows(base / "out"), rows(folder / "out")
    (at,) = [index for index, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    assert old[at]["key"].startswith("lone")
    assert touched(before, folder) == tars(at // 5)
    (change,) = Ledger.read(folder / "out").history
    assert (change.kept, change.added, change.removed, change.moved) == (25, 1, 1, 0)
    assert (change.shards_kept, change.shards_rewritten, change.shards_new, change.shards_gone) == (5, 1, 0, 0)
    assert change.root_sha256 == Ledger.read(base / "out").root_sha256


def test_the_chosen_of_a_changed_mixture_are_those_of_one_made_at_once(base, home, taken_down):
    folder, _, recipe = taken_down
    anew = fresh(base, recipe, home / "taken-anew")
    assert sorted(keys(folder / "out")) == sorted(keys(anew / "out"))
    one, other = Ledger.read(folder / "out"), Ledger.read(anew / "out")
    assert one.asked == other.asked
    assert one.by_source == other.by_source
    assert one.recipe_sha256 == other.recipe_sha256
    flow = one.flows[1]
    assert (flow.kept, flow.outputs) == (25, 1)
    assert flow.inputs == flow.outputs + flow.reserve + flow.barred + flow.kept


def test_every_sample_of_a_changed_mixture_has_the_bytes_of_one_made_at_once(home, taken_down):
    folder = taken_down[0] / "out"
    found = [members(folder), members(home / "taken-anew" / "out")]
    assert found[0] == found[1]


def members(folder):
    found = {}
    for path in (folder / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    return found


def test_only_what_is_added_is_talked_about_and_encoded(taken_down):
    folder, _, _ = taken_down
    manifests = [json.loads(p.read_text()) for p in (folder / "ws" / "features").glob("*/manifest.json")]
    assert sorted(sum(part["inputs"] for part in each["parts"]) for each in manifests) == [1, 26]


def test_a_change_that_is_asked_for_again_changes_nothing(taken_down):
    folder, _, recipe = taken_down
    before = contents(folder / "out")
    build(recipe, folder, "--amend")
    assert contents(folder / "out") == before
    shutil.rmtree(folder / "out")  # as a build leaves it that is killed between the two renames of its swap
    build(recipe, folder, "--amend")
    assert contents(folder / "out") == before


class Killed(BaseException):
    """As a SIGKILL: nothing but the files tells of it."""


def test_a_change_that_is_killed_after_any_step_ends_with_the_same_bytes(base, taken_down, home, monkeypatch):
    folder, _, recipe = taken_down
    killed = shutil.copytree(base, home / "killed")
    path = write_recipe(killed, recipe)
    places = {"workspace": str(killed / "ws"), "output": str(killed / "out")}
    settled = settle(load_recipe(str(path)), **places, workers=None, runner=None)
    for done in range(1, 7):
        running = Build(settled, LocalRunner(), Display(Console(quiet=True)), amend=True)
        assert len(running.steps()) == 6
        for name, step in running.steps()[:done]:
            if name == "publish":
                monkeypatch.setattr(Path, "rename", renames_once(Path.rename))
                with pytest.raises(Killed):
                    step()
                monkeypatch.undo()
                assert not (killed / "out").exists()
            else:
                step()
    Build(settled, LocalRunner(), Display(Console(quiet=True)), amend=True).run()
    assert contents(killed / "out") == contents(folder / "out")


def renames_once(rename):
    """A swap of two names, killed between them."""
    done = []

    def renamed(self, target):
        if done:
            raise Killed
        done.append(target)
        return rename(self, target)

    return renamed


@pytest.mark.slow
def test_kills_while_a_mixture_is_changed_end_with_the_same_bytes(base, taken_down, home):
    folder, _, recipe = taken_down
    killed = shutil.copytree(base, home / "kills")
    path = write_recipe(killed, recipe)
    arguments = [str(path), "--workspace", str(killed / "ws"), "--output", str(killed / "out"), "--amend"]
    rng, hit = random.Random(5), 0
    while hit < 8:
        if kill_after(rng.uniform(0.5, 6), arguments):
            hit += 1
        else:  # done already: begin anew
            shutil.rmtree(killed)
            shutil.copytree(base, killed)
            write_recipe(killed, recipe)
    build(recipe, killed, "--amend")
    assert contents(killed / "out") == contents(folder / "out")


def test_what_was_taken_down_comes_back_to_where_it_was(base, taken_down, home, data):
    folder = shutil.copytree(taken_down[0], home / "back")
    build(data, folder, "--amend")
    assert contents(folder / "out" / "shards") == contents(base / "out" / "shards")
    assert len(Ledger.read(folder / "out").history) == 2
    before = contents(folder / "out")
    build(data, folder, "--amend")
    assert contents(folder / "out") == before
    assert audit(folder / "out").ok
    # Equal shards are there twice, made at once and changed: without the latter the past is not forgotten.
    (last,) = [
        p.parent for p in (folder / "ws/shards").glob("*/ledger.json") if len(Ledger.read(p.parent).history) == 2
    ]
    shutil.rmtree(last)
    build(data, folder, "--amend")
    assert [change.removed for change in Ledger.read(folder / "out").history] == [1, 1, 0]


def test_a_raised_total_keeps_every_position_and_every_full_shard(base, home, data):
    folder, before, _ = changed(base, home, data, "raised", total=27)
    old, new = tars_of(base / "out"), tars_of(folder / "out")
    assert all(new[name][: len(own)] == own for name, own in old.items())
    assert touched(before, folder) == tars(4, 5)  # the last tar was not full
    (change,) = Ledger.read(folder / "out").history
    assert (change.kept, change.added, change.removed, change.moved) == (26, 3, 0, 0)
    assert (change.shards_kept, change.shards_rewritten, change.shards_new) == (5, 1, 1)


def test_a_lowered_total_moves_the_tail_into_the_holes(base, home, data):
    folder, _, _ = changed(base, home, data, "lowered", total=19)
    (change,) = Ledger.read(folder / "out").history
    assert (change.kept, change.added, change.removed) == (21, 0, 5)
    assert change.moved
    assert change.shards_gone == 1


def test_a_source_is_added_and_retired_again(base, home, data):
    more = deepcopy(data)
    annotations = str(write_llava(home / "more", pictures=12, texts=4, width=62))
    more["sources"].append(llava(home, "more", annotations))
    folder, _, _ = changed(base, home, more, "added", weights={"more": "1/2", "lone": "1/6"})
    ledger = Ledger.read(folder / "out")
    assert ledger.by_source["train/more"].samples
    (change,) = ledger.history
    assert change.added == change.removed == ledger.by_source["train/more"].samples
    assert change.moved == 0
    assert change.shards_kept
    old, new = rows(base / "out"), rows(folder / "out")
    assert all(other == one or other["key"].startswith("more") for one, other in zip(old, new, strict=True))
    build(data, folder, "--amend")
    assert audit(folder / "out").ok
    assert contents(folder / "out" / "shards") == contents(base / "out" / "shards")


def test_other_shares_take_a_fresh_order_where_the_old_one_would_be_too_unfair(base, home, data, monkeypatch):
    monkeypatch.setattr("flows.amend.KEPT_PREFIX_BOUND", 1)  # so few samples would be within the real one
    folder, _, recipe = changed(base, home, data, "shares", shares={"text": 50, "image": 10, "video": 40})
    (change,) = Ledger.read(folder / "out").history
    assert change.reordered == ("train",)
    assert change.kept > 15
    anew = fresh(base, recipe, home / "shares-anew")
    for name, own in contents(anew / "out" / "shards").items():
        assert (folder / "out" / "shards" / name).read_bytes() == own, name


def test_a_sample_whose_labels_changed_is_made_again_in_its_place(base, home, data):
    other = deepcopy(data)
    other["sources"][2]["licence"] = "MIT"
    folder, before, _ = changed(base, home, other, "relabelled")
    assert keys(folder / "out") == keys(base / "out")
    (change,) = Ledger.read(folder / "out").history
    assert (change.added, change.removed, change.kept) == (1, 1, 25)
    assert len(touched(before, folder)) == 1  # its features are the same again
    assert "train/MIT" in Ledger.read(folder / "out").by_licence


def test_an_entry_that_is_taken_out_of_its_source_goes_though_the_recipe_is_the_same(base, home, data):
    folder = shutil.copytree(base, home / "edited")
    path = home / "lone" / "annotations.json"
    whole = path.read_text()
    (gone,) = [key for key in keys(base / "out") if key.startswith("lone")]
    try:
        path.write_text(json.dumps([row for row in json.loads(whole) if row["id"].replace(" ", "-") not in gone]))
        build(data, folder, "--amend")
        before = contents(folder / "out")
        build(data, folder, "--amend")
    finally:
        path.write_text(whole)
    assert contents(folder / "out") == before
    differ = [
        (one, other) for one, other in zip(keys(base / "out"), keys(folder / "out"), strict=True) if one != other
    ]
    assert [one for one, _ in differ] == [gone]
    assert differ[0][1].startswith("lone")
    (change,) = Ledger.read(folder / "out").history
    assert change.recipe_sha256 == Ledger.read(folder / "out").recipe_sha256


def test_what_failed_is_tried_again_and_weighed_against_all_that_passed(base, home, data):
    """One of the added fails: a third of what this build encodes, but few of the mixture's samples."""
    folder = shutil.copytree(base, home / "failing")
    recipe = deepcopy(data)
    recipe["mixture"]["total"] = 27
    recipe["budgets"] = {"features": "1/20"}
    path = write_recipe(folder, recipe)
    settled = settle(
        load_recipe(str(path)), workspace=str(folder / "ws"), output=str(folder / "out"), workers=None, runner=None
    )
    running = Build(settled, LocalRunner(), Display(Console(quiet=True)), amend=True)
    running.ingest()
    running.plan()
    added = [sample for sample in running.first_choice() if sample.key not in keys(base / "out")]
    doomed = next(sample for sample in added if sample.media)
    medium = Path(running.roots[doomed.source]) / doomed.media[0].path
    bytes_before = medium.read_bytes()
    try:
        medium.write_bytes(b"")
        running.produce()
        running.shards()
    finally:
        medium.write_bytes(bytes_before)
    assert doomed.key in running.rejections
    flow = running.ledger.flows[1]
    assert (flow.outputs, flow.kept) == (len(added) + 1, 26)
    running.audit()
    assert running.findings.ok, running.findings.findings


@pytest.mark.slow
def test_a_column_is_added_to_a_mixture_while_it_is_changed_and_after(base, home, data):
    wider = deepcopy(data)
    wider["encoders"]["second"] = {**deepcopy(data["encoders"]["siglip"]), "seed": 4, "store": {"place": "column"}}
    folder, before, recipe = changed(base, home, wider, "wider", total=27)
    assert {name for name in touched(before, folder) if ".second." not in name} == tars(4, 5)
    other = deepcopy(recipe)
    other["encoders"]["second"]["seed"] = 5
    before = marks(folder / "out")
    build(other, folder, "--amend")
    assert {name.split(".")[1] for name in touched(before, folder)} == {"second"}
    ledger = Ledger.read(folder / "out")
    assert len(ledger.history) == 1  # the shards did not change
    assert audit(folder / "out").ok


def test_the_comparison_and_the_status_tell_the_history(base, taken_down):
    folder, _, _ = taken_down
    told = CliRunner().invoke(app, ["audit", str(folder / "out"), "--against", str(base / "out"), "--trust"]).output
    assert "Changes, the last one last" in told
    assert Ledger.read(base / "out").root_sha256[:12] in told
    places = ["--workspace", str(folder / "ws"), "--output", str(folder / "out")]
    status = CliRunner().invoke(app, ["status", str(folder / "recipe.yaml"), *places]).output
    assert "left in reserve + barred + kept" in status
    assert "Changes, the last one last" in status
    assert "## Changes" in (folder / "out" / "README.md").read_text()
    assert "## Changes" not in (base / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: r.update(seed=4), "seed"),
        (lambda r: r["conversations"].update(max_turns=1), "conversations"),
        (lambda r: r["decode"].update(fps=1), "decode"),
        (lambda r: r["encoders"]["siglip"].update(seed=9), "encoders.siglip"),
        (lambda r: r["shards"].update(frames_for=[]), "shards"),
        (lambda r: r["shards"].update(samples_per_shard=9), "shards.samples_per_shard"),
    ],
)
def test_what_would_give_kept_samples_other_bytes_is_refused_by_name(base, data, tmp_path, change, named):
    recipe = deepcopy(data)
    recipe.setdefault("conversations", {})
    recipe.setdefault("decode", {})
    change(recipe)
    done = CliRunner().invoke(
        app,
        ["build", str(write_recipe(tmp_path, recipe)), "--amend", "--workspace", str(base / "ws"), "--output",
         str(base / "out")],
    )  # fmt: skip
    assert done.exit_code == 2
    assert f"but {named} changed since" in done.output
    assert "build without --amend" in done.output


def test_without_a_mixture_or_its_workspace_there_is_nothing_to_change(base, data, tmp_path):
    done = run(data, tmp_path, "--amend")
    assert done.exit_code == 2
    assert "holds no mixture that could be changed: build without --amend" in done.output
    shutil.copytree(base / "out", tmp_path / "out")
    done = run(data, tmp_path, "--amend")
    assert done.exit_code == 2
    assert "name the workspace that it was built in, or build without --amend" in done.output
