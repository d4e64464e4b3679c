"""A mixture whose tars are cut by bytes: columns are cut alike, and a change leaves old cuts where they were."""

import tarfile
from itertools import pairwise

import pytest
from mini import contents, mini_recipe, write_recipe
from typer.testing import CliRunner

from flows.cli import app
from pipeline.audit.audit import audit
from pipeline.shards.index import column_index, starts_in
from schemas.ledger import Ledger

COLUMN = "internvideo2"
MAX_BYTES = 110_000


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    data = mini_recipe(folder)
    data["sources"][0] |= {"videos": 20, "heldout": 3}
    data["mixture"] |= {"total": 24, "heldout_total": 2}
    data["encoders"][COLUMN]["store"]["place"] = "column"
    data["shards"] = {"max_bytes": MAX_BYTES}
    data["runtime"]["workers"] = 2
    build(folder, data)
    return folder, data


def build(folder, data, *options):
    done = CliRunner().invoke(app, ["build", str(write_recipe(folder, data)), *options])
    assert done.exit_code == 0, done.output


def keys(path):
    with tarfile.open(path) as tar:
        return list(dict.fromkeys(name.partition(".")[0] for name in tar.getnames()))


def check_cuts(out, free_from=0):
    """Columns hold what shards hold; a tar that was not there before is full, or the last."""
    assert audit(out).ok
    ledger = Ledger.read(out)
    shards = [entry for entry in ledger.shards if entry.split == "train"]
    for entry in ledger.shards:
        column = out / entry.name.replace(".tar", f".{COLUMN}.tar")
        assert keys(column) == keys(out / entry.name)
    assert starts_in(out, "train", column_index(COLUMN)) == starts_in(out, "train")
    for entry in shards[free_from:]:
        assert entry.size_bytes <= MAX_BYTES
    assert len(shards) > 3


def test_tars_are_cut_by_bytes_and_a_column_where_the_shards_are(home):
    folder, _ = home
    check_cuts(folder / "out")
    starts = starts_in(folder / "out", "train")
    assert len({after - before for before, after in pairwise(starts)}) > 1


def test_a_raised_total_keeps_every_tar_but_the_last_and_cuts_the_rest_by_bytes(home):
    folder, data = home
    old, starts = contents(folder / "out"), starts_in(folder / "out", "train")
    data["mixture"]["total"] = 34
    build(folder, data, "--amend")
    check_cuts(folder / "out")
    new = contents(folder / "out")
    assert starts_in(folder / "out", "train")[: len(starts)] == starts
    same = [
        f"shards/train-{number:06d}{end}" for number in range(len(starts) - 1) for end in (".tar", f".{COLUMN}.tar")
    ]
    assert all(new[name] == old[name] for name in same)
    (change,) = Ledger.read(folder / "out").history
    tars = [name for name in new if name.endswith(".tar") and COLUMN not in name]
    kept = [name for name in tars if old.get(name) == new[name]]
    assert change.shards_kept == len(kept)
    assert change.shards_new == len([name for name in tars if name not in old]) > 0
    assert change.shards_rewritten == len(tars) - len(kept) - change.shards_new
