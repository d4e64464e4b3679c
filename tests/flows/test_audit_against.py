"""Laws of `mixture audit A --against B`: a difference is no finding, and nobody is trusted unasked."""

import json
import shutil

import pytest
from mini import environment, mini_recipe, mixture, write_recipe


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A mixture, and one of two samples more."""
    folders = []
    for total, name in ((40, "before"), (42, "after")):
        folder = tmp_path_factory.mktemp(name)
        recipe = mini_recipe(folder)
        recipe["mixture"]["total"] = total
        done = mixture("build", write_recipe(folder, recipe), env=environment())
        assert done.returncode == 0, done.stderr
        folders.append(folder / "out")
    return folders


@pytest.fixture
def damaged(pair, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(pair[0], folder)
    with (folder / "shards/train-000000.tar").open("ab") as tar:
        tar.write(b"x" * 512)
    return folder


@pytest.mark.slow
def test_a_difference_is_told_to_people_and_programs_and_is_no_finding(pair):
    before, after = pair
    done = mixture("audit", after, "--against", before)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "audit: passed, 46 samples" in shown
    assert "the other: passed, 44 samples" in shown
    assert "added 2 " in shown
    assert "removed 0 kept 44 " in shown
    assert "with another text 0" in shown
    told = json.loads(mixture("audit", after, "--against", before, "--json").stdout)
    assert told["ok"]
    found = told["against"]
    assert (found["is_audited"], found["ok"], found["added"], found["removed"], found["kept"]) == (
        True,
        True,
        2,
        0,
        44,
    )
    assert (found["text"], found["media"], found["features"], found["labels"]) == (0, 0, 0, 0)
    assert found["counts"]["total"] == {"heldout": {"before": 4, "after": 4}, "train": {"before": 40, "after": 42}}
    assert found["settings"].keys() == {"recipe_sha256", "asked"}


def test_a_mixture_is_itself(pair):
    done = mixture("audit", pair[0], "--against", pair[0], "--trust")
    assert done.returncode == 0
    assert "the same tars in the same order" in done.stdout
    assert "the other: not audited" in done.stdout


def test_a_finding_in_the_mixture_decides_the_exit_code_and_one_in_the_other_is_told(pair, damaged):
    assert mixture("audit", damaged, "--against", pair[1]).returncode == 1
    done = mixture("audit", pair[1], "--against", damaged)
    assert done.returncode == 0
    assert "what it tells of itself is not proven" in done.stdout
    told = json.loads(mixture("audit", pair[1], "--against", damaged, "--json").stdout)
    assert (told["ok"], told["against"]["ok"]) == (True, False)
    assert "shard_changed" in told["against"]["findings"]
    trusted = json.loads(mixture("audit", pair[1], "--against", damaged, "--trust", "--json").stdout)
    assert (trusted["against"]["is_audited"], trusted["against"]["ok"]) == (False, None)


@pytest.mark.parametrize("arguments", [["--trust"], ["--against", "nowhere"]])
def test_what_makes_no_sense_is_bad_input(pair, arguments):
    done = mixture("audit", pair[0], *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_index_that_is_missing_is_bad_input(pair, tmp_path):
    shutil.copytree(pair[0], tmp_path / "bare")
    (tmp_path / "bare" / "index.parquet").unlink()
    done = mixture("audit", pair[0], "--against", tmp_path / "bare")
    assert done.returncode == 2
    assert "cannot be compared" in done.stderr
    assert "Traceback" not in done.stderr
