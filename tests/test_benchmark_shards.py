"""The shards' benchmark runs, at a tiny size, and its arithmetic holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def timed(seconds):
    return {"seconds": seconds, "first_s": seconds / 10, "samples": 8, "bytes": 80}


def test_a_ratio_is_the_median_of_pairs_and_not_of_either_side():
    from shards_report import Table

    table = Table("in order", {"energon": [(timed(o), timed(p)) for o, p in ((1, 2), (10, 10), (2, 6))]})
    assert table.ratios("energon") == [1, 2, 3]
    assert table.ratio("energon") == 2
    assert table.ratio("streaming") is None
    assert "| in order | energon | 3 | 6.00 | 2.00 |" in table.rows(80)[0]


def test_readers_that_saw_different_samples_are_no_comparison():
    from shards import check_equal

    check_equal({"ours": {"digest": 1}, "webdataset": {"digest": 1}})
    with pytest.raises(RuntimeError, match="differ"):
        check_equal({"ours": {"digest": 1}, "webdataset": {"digest": 2}})


def test_no_place_to_go_on_from_is_the_start_or_the_end():
    from shards import PLACES, place_of

    assert [place_of(share, 400) for share in PLACES] == [4, 200, 396]
    assert [place_of(share, 24) for share in PLACES] == [4, 12, 20]


def test_a_peer_that_cannot_start_is_told_and_the_others_go_on(tmp_path):
    from contextlib import ExitStack

    from shards import OWN, Readers
    from shards_environments import Environment

    class Absent(Environment):
        def python(self, root=tmp_path):
            raise RuntimeError("no such package")

    absent = Absent("energon", ())
    with pytest.MonkeyPatch.context() as patched, ExitStack() as stack:
        patched.setitem(OWN, "energon", absent)
        readers = Readers(["energon"], {}, stack)
        assert readers.failed == {"energon": "no such package"}
        assert readers.peers() == []


def test_an_environment_is_made_once_and_lies_on_the_running_one(tmp_path):
    from shards_environments import Environment

    own = Environment("none", (), (), (("standing_in/__init__.py", "VALUE = 7\n"),))
    python = own.python(tmp_path)
    told = subprocess.run(
        [python, "-c", "import standing_in, numpy; print(standing_in.VALUE, numpy.__version__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    import numpy

    assert told.stdout.split() == ["7", numpy.__version__]
    made = python.stat().st_mtime_ns
    assert own.python(tmp_path) == python
    assert python.stat().st_mtime_ns == made


@pytest.mark.slow
def test_the_whole_of_it_runs_at_a_tiny_size(tmp_path):
    command = [BENCHMARKS / "shards.py", "--samples", "24", "--rounds", "1", "--peers", "webdataset"]
    command += ["--folder", tmp_path, "--out", tmp_path / "report.md"]
    environment = os.environ | {"no_proxy": "127.0.0.1"}
    told = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=environment)
    assert told.returncode == 0, told.stderr[-3000:]
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["read_over_energon"] is None
    assert found["read_over_streaming"] is None
    assert min(found[name] for name in ("write_over_copy", "read_over_webdataset", "resume_seconds")) > 0
    report = (tmp_path / "report.md").read_text()
    assert "Failed" not in report
    assert "| S3, in order | webdataset |" in report
