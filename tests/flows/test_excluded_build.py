"""Laws of exclusion lists on the way through a build: content decides, place does not, and the ledger tells."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mini import contents, mini_recipe
from rich.console import Console

from flows.build import opened_build
from flows.display import Display
from flows.exclusion_files import read_exclusions
from flows.learning import train_work
from pipeline.audit.audit import audit
from pipeline.audit.excluded import ExcludedCheck
from schemas.base import InputError
from schemas.ledger import Ledger
from schemas.recipe import Recipe

LINES = '# asked for\n{"media": "3", "reason": "its owner"}\n{"question": "what is 5 PLUS 1"}\nnobody\n'


def build(data: dict, *lists) -> Ledger:
    with opened_build(recipe_of(data, *lists), Display(Console(file=io.StringIO()))) as running:
        running.run()
    assert running.findings.ok, running.findings.findings
    return running.ledger


def recipe_of(data: dict, *lists) -> Recipe:
    return Recipe.model_validate({**data, "mixture": {**data["mixture"], "exclude": [str(path) for path in lists]}})


def data_in(folder) -> dict:
    data = mini_recipe(folder)
    data["sources"] = data["sources"][1:]
    data["mixture"] = {"total": 20, "shares": {"text": 50, "image": 50}}
    return data


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A mixture built with one list: its recipe's data, the list, the ledger."""
    folder = tmp_path_factory.mktemp("excluded")
    takedowns = folder / "takedowns.jsonl"
    takedowns.write_text(LINES)
    data = data_in(folder)
    return data, takedowns, build(data, takedowns)


def test_the_ledger_tells_each_list_and_whom_it_barred(built):
    _, takedowns, ledger = built
    (told,) = ledger.exclusions
    assert (told.name, told.records) == ("takedowns", 3)
    assert [(row.stratum, row.gate, row.value, row.samples) for row in ledger.barred] == [
        ("train/image/own", "excluded", "takedowns: its owner", 1),
        ("train/text/own", "excluded", "takedowns", 1),
    ]
    assert ledger.flows[1].barred == 2
    assert str(takedowns.parent) not in ledger.model_dump_json()


def test_no_sample_that_is_listed_is_in_the_tars_and_the_same_list_proves_it(built, tmp_path):
    data, takedowns, _ = built
    check = ExcludedCheck()
    read_exclusions([str(takedowns)], check.add)
    assert audit(Path(data["output"]), excluded=check).ok
    (tmp_path / "more.txt").write_text(keys_in(data)[0])
    read_exclusions([str(tmp_path / "more.txt")], check.add)
    assert audit(Path(data["output"]), excluded=check).finding_counts == {"excluded_key": 1}


def test_content_decides_and_place_does_not(built, tmp_path):
    data, _, ledger = built
    output, artefacts = Path(data["output"]), Path(data["workspace"]) / "shards"
    before, shards = contents(output / "shards"), set(artefacts.iterdir())
    moved = tmp_path / "takedowns.jsonl"
    moved.write_text(LINES)
    assert build(data, moved) == ledger
    assert contents(output / "shards") == before
    assert set(artefacts.iterdir()) == shards
    one = keys_in(data)[0]
    moved.write_text(LINES + one + "\n")
    with pytest.raises(InputError, match=r"exclusion list takedowns has changed since .* `mixture build`"):
        train_work(recipe_of(data, moved))
    again = build(data, moved)
    assert one not in keys_in(data)
    assert again.recipe_sha256 == ledger.recipe_sha256
    assert again.exclusions[0].sha256 != ledger.exclusions[0].sha256
    assert len(set(artefacts.iterdir()) - shards) == 1
    train_work(recipe_of(data, moved))
    moved.unlink()
    train_work(recipe_of(data, moved))  # on a machine that has the mixture alone
    with pytest.raises(InputError, match="was built from another recipe"):
        train_work(recipe_of(data))


def keys_in(data: dict) -> list[str]:
    return pq.read_table(Path(data["output"]) / "index.parquet").column("key").to_pylist()


def test_a_bad_list_is_told_before_anything_is_ingested(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    with pytest.raises(InputError, match=r"bad.jsonl:1: names nothing"):
        build(data_in(tmp_path), bad)
    assert not (tmp_path / "workspace" / "ingest").exists()


def test_two_lists_of_one_name_are_a_mistake_in_the_recipe(tmp_path):
    with pytest.raises(ValueError, match="two exclusion lists are named a"):
        recipe_of(data_in(tmp_path), tmp_path / "a.txt", "elsewhere/a.jsonl")
