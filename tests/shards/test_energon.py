"""Megatron-Energon on a mixture as it was built, without `energon prepare`; in an environment of its own."""

import json
import subprocess
import sys
from pathlib import Path

import other_readers as others
import pytest
from other_readers import COLUMN, by_key, plain

TESTS = Path(__file__).parents[1]
PARTS = {"train": "train", "heldout": "val"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python():
    sys.path.insert(0, str(TESTS.parent / "benchmarks"))
    from shards_environments import ENERGON

    return ENERGON.python()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return others.build(tmp_path_factory.mktemp("energon"))


@pytest.fixture
def read(python, folder):
    """Outlines of what one process of Energon reads."""

    def call(*arguments):
        command = [python, TESTS / "read_by_energon.py", folder, *arguments]
        told = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=200)
        assert told.returncode == 0, told.stderr[-3000:]
        return json.loads(told.stdout.splitlines()[-1])

    return call


@pytest.mark.parametrize("split", PARTS)
@pytest.mark.parametrize("workers", [0, 2])
def test_energon_reads_each_sample_once_and_in_order_without_workers(read, folder, split, workers):
    found, expected = read(PARTS[split], workers), plain(folder, split)
    assert by_key(found) == by_key(expected)
    assert workers or found == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_energon_goes_on_in_another_process_by_its_own_state(read, folder, tmp_path, workers):
    state = tmp_path / "state"
    whole = read("train", workers, "--train", "--stop", 4, state)
    assert by_key(whole) == by_key(plain(folder, "train"))
    assert whole != plain(folder, "train")
    assert read("train", workers, "--train", "--resume", state) == whole[12:]


def test_energon_joins_the_column_in_its_cooker(read, folder):
    pairs = zip(plain(folder, "train"), plain(folder, "train", COLUMN), strict=True)
    expected = [{**sample, f"{COLUMN}.npy": column[f"{COLUMN}.npy"]} for sample, column in pairs]
    assert read("train", 0, "--column", "train", COLUMN) == expected
