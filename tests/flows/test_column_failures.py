"""What goes wrong around a column never decides which samples a mixture holds, and never stays once it passed."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pytest
from mini import contents, mini_recipe
from PIL import Image
from rich.console import Console

from flows.build import Build
from flows.clean import clean_workspace
from flows.columns import ColumnError
from flows.display import Display
from flows.learning import train_work
from pipeline.audit.audit import audit
from pipeline.audit.findings import Code
from pipeline.features.stage import Encode
from pipeline.runtime.local import LocalRunner
from pipeline.runtime.rows import read_row, read_types, write_rows
from schemas.base import digest
from schemas.ledger import Ledger
from schemas.recipe import Recipe
from schemas.rejection import Reason, Rejection

COLUMN = "internvideo2"


class Kills(LocalRunner):
    """As if `COLUMN`'s encoder ended its worker each time it met the sample `key`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def run(self, stages, jobs) -> Iterator:
        has_column = any(isinstance(stage, Encode) and COLUMN in stage._specs for stage in stages)
        for done in super().run(stages, jobs):
            if has_column:
                rows = [read_row(done.attempt, index) for index in range(len(read_types(done.attempt)))]
                dead = Rejection(key=self.key, stage="features", reason=Reason.POISON, detail="ended its worker")
                write_rows(done.attempt, [dead if row.key == self.key else row for row in rows])
            yield done


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failures")
    return folder, mini_recipe(folder)


def recipe(home, folder, column=True, **changes) -> Recipe:
    data = deepcopy(home[1]) | {"workspace": str(folder / "ws"), "output": str(folder / "out")} | changes
    if column:
        data["encoders"][COLUMN]["store"]["place"] = "column"
    else:
        del data["encoders"][COLUMN]
    return Recipe.model_validate(data)


def run(recipe, runner=None) -> Build:
    build = Build(recipe, runner or LocalRunner(), Display(Console(file=io.StringIO())))
    build.run()
    return build


@pytest.fixture(scope="module")
def plain(home, tmp_path_factory):
    """A whole mixture without the column."""
    folder = tmp_path_factory.mktemp("plain")
    run(recipe(home, folder, column=False))
    return folder


@pytest.fixture
def whole(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "whole")


def passes(folder) -> set[str]:
    return {path.parent.name for path in (folder / "ws" / "features").glob("*/manifest.json")}


def film_of(folder):
    """A film of the mixture, as it lies in the workspace."""
    keys = {path.name: path for path in (folder / "ws" / "media").rglob("*.mp4")}
    ledger = json.loads((folder / "out" / "ledger.json").read_text())
    assert ledger
    import pyarrow.parquet as pq

    for key in pq.read_table(folder / "out" / "index.parquet")["key"].to_pylist():
        if f"{key}.mp4" in keys:
            return key, keys[f"{key}.mp4"]
    raise AssertionError("the mini mixture has films")


@pytest.mark.slow
def test_a_columns_encoder_that_kills_its_worker_costs_its_column_and_no_sample(home, plain, tmp_path):
    key, _ = film_of(plain)
    with pytest.raises(ColumnError, match=f"1 of 40 samples fail, such as {key} .*ended its worker"):
        run(recipe(home, tmp_path), Kills(key))
    built = run(recipe(home, tmp_path, column=False))  # the shards were packed all the same, and are found
    assert not built._waves
    assert contents(tmp_path / "out") == contents(plain / "out")


def test_a_film_that_was_away_for_one_run_is_not_missing_for_ever(home, whole):
    key, film = film_of(whole)
    film.rename(whole / "away.mp4")
    before = contents(whole / "out")
    with pytest.raises(ColumnError, match=f"1 of 44 samples fail, such as {key}"):
        run(recipe(home, whole))
    assert contents(whole / "out") == before
    (whole / "away.mp4").rename(film)
    built = run(recipe(home, whole))
    assert built.findings.ok
    assert [column.encoder for column in built.ledger.columns] == [COLUMN]


def test_other_bytes_of_the_same_size_and_time_give_no_features_to_old_shards(home, whole):
    key, film = film_of(whole)
    data, times = bytearray(film.read_bytes()), film.stat()
    data[-200] ^= 1
    film.write_bytes(data)
    os.utime(film, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ColumnError, match=f"{key} .*other bytes than when it was ingested"):
        run(recipe(home, whole))


@pytest.mark.slow
def test_shards_that_are_made_again_with_other_samples_get_a_column_of_their_own(home, tmp_path):
    wanted = recipe(home, tmp_path, budgets={"features": "1/2"})
    run(wanted)
    key, film = film_of(tmp_path)
    for name in ("shards", "features", "mixture", "conversations"):
        shutil.rmtree(tmp_path / "ws" / name)
    film.unlink()
    built = run(wanted)
    assert key in built.rejections
    assert built.findings.ok, built.findings.findings


def test_a_kill_between_two_columns_encodes_nothing_again(home, plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "two")
    both = recipe(home, folder)
    other = both.encoders[COLUMN].model_copy(update={"seed": 9})
    both = both.model_copy(update={"encoders": {**both.encoders, "second": other}})
    run(both)
    before = passes(folder)
    assert len(before - passes(plain)) == 1  # both columns of one pass over the media
    newest = max((folder / "ws" / "columns").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    shutil.rmtree(newest)
    shutil.rmtree(folder / "ws" / "mixture")
    assert run(both).findings.ok
    assert passes(folder) == before


def test_the_order_of_encoders_is_part_of_what_a_training_is_of(home, whole):
    one = recipe(home, whole)
    run(one)
    first, root = train_work(one).fingerprint, Ledger.read(whole / "out").root_sha256
    turned = one.model_copy(update={"encoders": dict(reversed(one.encoders.items()))})
    run(turned)
    assert Ledger.read(whole / "out").root_sha256 == root  # the tars are the same
    assert train_work(turned).fingerprint != first


@pytest.mark.slow
def test_a_line_separator_in_a_file_name_does_not_end_later_builds(home, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(home[0] / "own", folder)
    rows = json.loads((folder / "annotations.json").read_text())
    rows.append(rows[0] | {"id": "odd", "image": "a\u2028b.png"})
    (folder / "annotations.json").write_text(json.dumps(rows))
    data = deepcopy(home[1])
    data["sources"][1] |= {"annotations": str(folder / "annotations.json"), "media_root": str(folder)}
    wanted = recipe(home, tmp_path, sources=data["sources"])
    assert run(wanted).findings.ok
    again = run(wanted)
    assert [refused.where for refused in again.rejections.values()] == ["a\u2028b.png"]


def test_a_whole_column_tar_that_nobody_speaks_of_any_more_is_missed(home, whole):
    run(recipe(home, whole))
    out = whole / "out"
    (out / f"shards/train-000001.{COLUMN}.tar").unlink()
    ledger = json.loads((out / "ledger.json").read_text())
    column = ledger["columns"][0]
    column["shards"] = [tar for tar in column["shards"] if "train-000001" not in tar["name"]]
    tars = [*ledger["shards"], *column["shards"]]
    ledger["root_sha256"] = digest([tar["sha256"] for tar in tars])
    (out / "ledger.json").write_text(json.dumps(ledger))
    assert audit(out).finding_counts[Code.COLUMN_MISALIGNED] == 1


@pytest.mark.slow
def test_columns_that_no_mixture_holds_go_when_asked_and_the_held_ones_stay(home, whole):
    for seed in (0, 7):
        wanted = recipe(home, whole)
        other = wanted.encoders[COLUMN].model_copy(update={"seed": seed})
        wanted = wanted.model_copy(update={"encoders": {**wanted.encoders, COLUMN: other}})
        run(wanted)
    workspace, out = whole / "ws", whole / "out"
    before, held = passes(whole), contents(out)
    assert clean_workspace(workspace, out) == (0, 0)
    files, size = clean_workspace(workspace, out, columns=True)
    assert (files > 0, size > 0) == (True, True)
    assert [len(list((workspace / name).iterdir())) for name in ("columns", "mixture", "shards")] == [1, 1, 1]
    assert run(wanted).findings.ok
    assert (passes(whole), contents(out)) == (before, held)


def test_a_ledger_that_belittles_what_storing_lost_is_found(home, whole):
    run(recipe(home, whole))
    path = whole / "out" / "ledger.json"
    ledger = json.loads(path.read_text())
    ledger["storage_loss"][COLUMN]["cosine"] = 0.9999
    path.write_text(json.dumps(ledger))
    assert audit(whole / "out").finding_counts == {Code.COUNTS_DIFFER: 1}


def test_a_picture_that_claims_to_be_huge_is_refused_and_not_obeyed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)  # Pillow's own, which decoding lifts in its process
    from pipeline.audit.pictures import picture_sizes
    from pipeline.shards.mjpeg import MjpegError, from_mjpeg

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    size = data.index(b"\xff\xc0") + 5
    for side, told in ((9_000, "none has a side of over 1024"), (65_000, "could be decompression bomb")):
        data[size : size + 4] = side.to_bytes(2, "big") * 2
        with pytest.raises(MjpegError, match=told):
            from_mjpeg(data, [1])
    with pytest.raises(ValueError, match="is no JPEG"):
        picture_sizes(bytes(data))
