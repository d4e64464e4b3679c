"""Quarantine a person can act on: what is mended and requeued is built as if it had never been broken."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from counted_steps import KilledError, count_steps
from mini import contents, mini_recipe, mixture, write_recipe
from rich.console import Console

from flows.build import Build
from flows.clean import clean_workspace
from flows.display import Display
from flows.quarantine import read_quarantine
from flows.recipe_file import load_recipe, settle
from flows.requeue import Selection, requeue
from pipeline.audit.audit import audit
from pipeline.runtime.local import LocalRunner

BROKEN = ("2.png", "5.png", "9.png")
"""Whole headers, other bytes behind them: only decode sees it."""
MISSING = "7.png"


class Counting(LocalRunner):
    """Notes which keys each stage was asked about."""

    def __init__(self):
        self.asked = {}

    def run(self, stages, jobs):
        jobs = list(jobs)
        for job in jobs:
            self.asked.setdefault(stages[0].name, []).extend(job.keys)
        yield from super().run(stages, jobs)


def build(recipe, amend=False):
    """Builds in this process; gives the build, and what it asked its stages."""
    runner = Counting()
    running = Build(recipe, runner, Display(Console(quiet=True)), amend)
    running.run()
    return running, runner.asked


def broken(folder, **changes):
    """A recipe of which three pictures cannot be decoded and one is not there; and the whole files."""
    data = mini_recipe(folder)
    data["sources"] = data["sources"][1:]
    data["mixture"] = {"total": 15, "shares": {"text": 20, "image": 80}}
    data["budgets"] = {"ingest": 0.5, "features": 0.5}
    path = write_recipe(folder, {**data, **changes})
    own = folder / "own"
    whole = {name: (own / name).read_bytes() for name in (*BROKEN, MISSING)}
    for name in BROKEN:
        half = len(whole[name]) // 2
        (own / name).write_bytes(whole[name][:half] + b"?" * (len(whole[name]) - half))
    (own / MISSING).unlink()
    return path, whole


def mend(folder, whole, keep_times=False):
    """Puts the whole files back; as `rsync --times` does, or as an editor."""
    for name, data in whole.items():
        path = folder / "own" / name
        times = path.stat().st_mtime_ns if path.exists() else None
        path.write_bytes(data)
        if keep_times and times:
            os.utime(path, ns=(times, times))


def fresh(recipe, folder):
    """The bytes of a build from nothing."""
    build(settle(recipe, output=str(folder / "out2"), workspace=str(folder / "ws2"), workers=None, runner=None))
    return contents(folder / "out2")


@pytest.mark.parametrize("keep_times", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("columns", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_mended_and_requeued_is_as_if_it_had_never_been_broken(tmp_path, keep_times, columns):
    changes = {}
    if columns:
        changes["encoders"] = mini_recipe(tmp_path / "other")["encoders"]
        changes["encoders"]["internvideo2"]["store"]["place"] = "column"
    path, whole = broken(tmp_path, **changes)
    recipe = load_recipe(str(path))
    build(recipe)
    refused = read_quarantine(recipe)
    chosen = [each for each in refused if each.stage != "ingest"]
    assert 1 <= len(chosen) <= 3
    assert len(refused) == len(chosen) + 1
    before = contents(tmp_path / "out")
    mend(tmp_path, {n: d for n, d in whole.items() if n != MISSING} if keep_times else whole, keep_times)
    asked_for = chosen if keep_times else refused
    done = requeue(recipe, asked_for)
    keys = {each.key for each in asked_for}
    clean_workspace(Path(recipe.workspace), Path(recipe.output))  # the output is still of what was set aside
    assert set_aside(tmp_path)
    assert (set(done.keys), done.shared, done.mixtures) == (keys, [], 1)
    _, asked = build(recipe)
    # Nothing but these is looked at, talked about or decoded again; a broken one that was never asked may be now.
    late = {k for k in asked["ingest"] if any(f"picture-{n[0]}-" in k for n in BROKEN)}
    assert set(asked["ingest"]) == keys | late
    assert set(asked["decode"]) <= keys | late
    assert set(asked["conversations"]) <= keys | late
    after = contents(tmp_path / "out")
    assert after != before
    assert after == fresh(recipe, tmp_path)
    assert audit(tmp_path / "out").ok
    assert [each.key for each in read_quarantine(recipe)] == [e.key for e in refused if e.key not in keys]
    clean_workspace(Path(recipe.workspace), Path(recipe.output))
    assert not set_aside(tmp_path)
    build(recipe)
    assert contents(tmp_path / "out") == after


def set_aside(folder):
    """What a requeue left for `--amend`."""
    return [path for stage in ("shards", "columns") for path in (folder / "workspace" / stage).glob("*-1")]


def test_what_is_not_mended_fails_again_and_is_told_as_tried_twice(tmp_path):
    path, _ = broken(tmp_path)
    recipe = load_recipe(str(path))
    build(recipe)
    before, refused = contents(tmp_path / "out"), read_quarantine(recipe)
    requeue(recipe, refused)
    assert read_quarantine(recipe) == []
    build(recipe)
    assert contents(tmp_path / "out") == before
    again = read_quarantine(recipe)
    assert [(e.key, e.reason, e.tries) for e in again] == [(e.key, e.reason, 2) for e in refused]


@pytest.mark.slow
def test_a_requeue_that_is_killed_anywhere_leaves_a_workspace_whose_next_build_is_right(tmp_path, monkeypatch):
    path, whole = broken(tmp_path)
    recipe = load_recipe(str(path))
    build(recipe)
    refused = read_quarantine(recipe)
    before = contents(tmp_path / "out")
    shutil.copytree(tmp_path / "workspace", tmp_path / "kept")
    steps = count_steps(monkeypatch, STEPS, lambda: requeue(recipe, refused))
    assert steps >= 6
    mended = None
    for last in range(steps):
        shutil.rmtree(tmp_path / "workspace")
        shutil.copytree(tmp_path / "kept", tmp_path / "workspace")
        with pytest.raises(KilledError):
            count_steps(monkeypatch, STEPS, lambda: requeue(recipe, refused), last)
        build(recipe)  # nothing is mended yet: what is tried again fails again
        assert contents(tmp_path / "out") == before
    mend(tmp_path, whole, keep_times=True)
    requeue(recipe, read_quarantine(recipe))
    build(recipe)
    mended = contents(tmp_path / "out")
    assert mended == fresh(recipe, tmp_path)


STEPS = ((Path, "rename"), (Path, "replace"), (Path, "unlink"), (shutil, "rmtree"))
"""Renames, removals and commits."""


@pytest.mark.slow
def test_amend_takes_a_requeued_sample_in_and_keeps_the_others(tmp_path):
    for keep_times in (False, True):
        folder = tmp_path / str(keep_times)
        folder.mkdir()
        path, whole = broken(folder)
        recipe = load_recipe(str(path))
        build(recipe)
        refused = [each for each in read_quarantine(recipe) if each.stage != "ingest"]
        mend(folder, {name: data for name, data in whole.items() if name != MISSING}, keep_times)
        requeue(recipe, refused)
        running, asked = build(recipe, amend=True)
        assert audit(folder / "out").ok
        (change,) = running.ledger.history
        assert change.kept + change.added == 15
        assert 0 < change.added <= len(refused)
        assert len(set(asked["decode"])) <= change.added
        keys = set(pq_keys(folder / "out"))
        anew = fresh(recipe, folder)
        assert keys == set(pq_keys(folder / "out2"))
        build(recipe)  # what was amended is not taken for a build from nothing
        assert contents(folder / "out") == anew


def pq_keys(folder):
    import pyarrow.parquet as pq

    return pq.read_table(folder / "index.parquet", columns=["key"])["key"].to_pylist()


@pytest.mark.slow
def test_media_that_changed_are_made_anew_for_every_sample_that_has_them(tmp_path):
    """With size and time kept, so that only the requeue can know."""
    path, whole = broken(tmp_path)
    rows = json.loads((tmp_path / "own" / "annotations.json").read_text())
    talk = [{"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "One."}]
    rows += [{"id": f"again {n}", "image": n, "conversations": talk} for n in (*BROKEN, "1.png")]
    (tmp_path / "own" / "annotations.json").write_text(json.dumps(rows))
    recipe = load_recipe(str(path))
    build(recipe)
    chosen = [each for each in read_quarantine(recipe) if each.stage != "ingest"]
    mend(tmp_path, {n: d for n, d in whole.items() if n != MISSING}, keep_times=True)
    done = requeue(recipe, chosen[:1])
    twin = [each for each in done.shared if each != chosen[0].key]
    assert len(twin) == 1
    requeue(recipe, read_quarantine(recipe))
    build(recipe)
    assert contents(tmp_path / "out") == fresh(recipe, tmp_path)


@pytest.mark.slow
def test_a_build_after_a_change_of_some_media_does_only_those_again(tmp_path):
    path, whole = broken(tmp_path)
    recipe = load_recipe(str(path))
    build(recipe)
    mend(tmp_path, whole)
    _, asked = build(recipe)
    assert len(set(asked["ingest"])) == 4
    assert len(set(asked["decode"])) <= 4
    assert contents(tmp_path / "out") == fresh(recipe, tmp_path)


@pytest.mark.slow
def test_an_annotation_that_moves_takes_no_rejection_along_that_names_its_old_place(tmp_path):
    path, _ = broken(tmp_path)
    annotations = tmp_path / "own" / "annotations.json"
    rows = json.loads(annotations.read_text())
    rows.append({"id": "wrong", "image": "1.png", "conversations": "What is it?"})
    annotations.write_text(json.dumps(rows))
    recipe = load_recipe(str(path))
    build(recipe)
    annotations.write_text(json.dumps([*rows[:-2], rows[-1]]))  # a text before it goes
    _, asked = build(recipe)
    (moved,) = [each for each in read_quarantine(recipe) if each.reason == "bad_annotation"]
    assert moved.where == f"annotations.json[{len(rows) - 2}]"
    assert set(asked["ingest"]) == {moved.key}
    assert contents(tmp_path / "out") == fresh(recipe, tmp_path)


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """A recipe that was built, with rejections; its folder and whole files."""
    folder = tmp_path_factory.mktemp("refused")
    path, whole = broken(folder)
    build(load_recipe(str(path)))
    return path, folder, whole


def test_show_tells_bytes_place_mend_and_a_command_that_shows_the_same_error(refused):
    path, folder, _ = refused
    found = read_quarantine(load_recipe(str(path)))
    for each in found:
        done = mixture("quarantine", "show", path, each.key, "--workspace", folder / "workspace", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        (medium,) = told["media"]
        name = Path(medium["place"]).name
        assert medium["place"] == str(folder / "own" / name)
        assert told["annotation"].startswith(f"{folder}/own/annotations.json[")
        if each.stage == "ingest":
            assert (name, medium["state"], medium["now"]) == (MISSING, "gone", None)
        else:
            assert name in BROKEN
            assert medium["state"] == "same"
            assert medium["then"] == medium["now"]
            assert medium["now"]["size_bytes"] == (folder / "own" / name).stat().st_size
            index = pq_keys(folder / "out")
            assert told["replaced"]["stratum"] == "train/image/own"
            assert told["replaced"]["by"] in ("", *index)
        assert len(told["held_by"]) == 1
        before = contents(folder / "workspace")
        command = [sys.executable, "-m", "flows.cli", *shlex.split(told["again"])[1:]]
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 1, again.stderr
        assert f"rejected by {each.stage}, {each.reason}" in again.stdout
        assert "".join(each.detail.split()) in "".join(again.stdout.split())
        assert contents(folder / "workspace") == before
    assert any(each.replaced and each.replaced.by for each in found)


def test_try_tells_what_was_mended_before_it_is_requeued(refused, tmp_path):
    path, folder, whole = refused
    shutil.copytree(folder, tmp_path / "copy")
    recipe = tmp_path / "copy" / "recipe.yaml"
    recipe.write_text(path.read_text().replace(str(folder), str(tmp_path / "copy")))
    build(load_recipe(str(recipe)))
    mend(tmp_path / "copy", {name: data + b" " for name, data in whole.items()})
    for each in read_quarantine(load_recipe(str(recipe))):
        done = mixture("quarantine", "try", recipe, each.key)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "as it is now: accepted" in done.stdout
        assert ("as ingest saw it: rejected by decode, changed" in done.stdout) == (each.stage == "decode")
        shown = mixture("quarantine", "show", recipe, each.key).stdout
        assert ("(changed)" if each.stage == "decode" else "(not seen before)") in shown


def test_the_list_sums_by_stage_and_reason_and_fits_eighty_columns(refused):
    path, _, _ = refused
    found = read_quarantine(load_recipe(str(path)))
    done = mixture("quarantine", "list", path, env={**os.environ, "COLUMNS": "80"})
    assert all(len(line) <= 80 for line in done.stdout.splitlines()), done.stdout
    assert f"ingest missing_file {1}" in " ".join(done.stdout.split())
    assert all(each.key in done.stdout for each in found)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "no-such-key"], 2, "no-such-key is not in quarantine"),
        (["try", "no-such-key"], 2, "no-such-key is not in quarantine"),
        (["requeue", "no-such-key", "nor-this"], 2, "no-such-key, nor-this"),
        (["requeue", "--reason", "bad_luck"], 2, "bad_luck"),
        (["requeue", "--stage", "shards"], 2, "shards"),
        (["requeue", "--source", "theirs"], 2, "theirs"),
        (["requeue", "--reason", "poison"], 1, "none of the"),
    ],
)
def test_what_is_not_in_quarantine_is_named(refused, arguments, code, words):
    path, folder, _ = refused
    before = contents(folder / "workspace")
    done = mixture("quarantine", arguments[0], path, *arguments[1:])
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(folder / "workspace") == before


def test_a_selection_takes_what_fits_in_each_respect(refused):
    path, _, _ = refused
    recipe = load_recipe(str(path))
    found = read_quarantine(recipe)
    decoded = [each for each in found if each.stage == "decode"]
    assert Selection().of(found, recipe) == found
    assert Selection(stages=["decode"]).of(found, recipe) == decoded
    assert Selection(keys=[decoded[0].key], stages=["decode"]).of(found, recipe) == decoded[:1]
    assert Selection(keys=[decoded[0].key], stages=["ingest"]).of(found, recipe) == []
    assert Selection(sources=["own"], reasons=["missing_file"]).of(found, recipe) == [
        each for each in found if each.reason == "missing_file"
    ]


def test_the_command_says_how_many_will_be_tried_again(refused, tmp_path):
    path, folder, _ = refused
    shutil.copytree(folder / "workspace", tmp_path / "ws")
    told = mixture("quarantine", "requeue", path, "--reason", "missing_file", "--workspace", tmp_path / "ws")
    assert told.returncode == 0, told.stderr
    total = len(read_quarantine(load_recipe(str(path))))
    assert f"1 of {total} rejections will be tried again" in told.stdout
    left = mixture("quarantine", "requeue", path, "--json", "--workspace", tmp_path / "ws")
    assert len(json.loads(left.stdout)["requeued"]) == total - 1
