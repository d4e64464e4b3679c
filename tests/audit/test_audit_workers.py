"""Tars dealt among processes: the same report for any number of them, and no hang when one dies."""

import os
import random
import shutil
import signal
import time
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
import shard_factory as made
from hypothesis import given, settings
from hypothesis import strategies as st
from test_audit import read_tar, write_tar

from pipeline.audit.audit import audit
from pipeline.audit.findings import KEPT_A_CODE, Code, Finding, FindingLog
from pipeline.audit.recount import Recount
from pipeline.audit.shard import audit_shard
from pipeline.audit.workers import WorkerDeathError, WorkerError, in_order, worth_starting
from schemas.arrays import StorageLoss
from schemas.ledger import Ledger

NAMES = [f"{number}" for number in range(12)]


def slow_at_first(name):
    time.sleep(0.3 if name == "0" else 0)
    return int(name)


def killed_at_five(name):
    if name == "5":
        os.kill(os.getpid(), signal.SIGKILL)
    return int(name)


def gone_at_five(name):
    if name == "5":
        os._exit(0)
    return int(name)


def failing_at_five(name):
    if name == "5":
        raise LookupError("five is not to be found")
    return int(name)


def told(folder, name):
    with (folder / "begun").open("a") as file:
        file.write(f"{name}\n")
    return name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    where = tmp_path_factory.mktemp("columns")
    made.build_with_column(where)
    return where / "mixture"


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_results_come_in_order_whoever_is_done_first(workers):
    assert list(in_order(slow_at_first, NAMES, workers)) == list(range(12))


def test_nothing_to_do_starts_nothing():
    assert list(in_order(slow_at_first, [], 4)) == []


@pytest.mark.parametrize("task", [killed_at_five, gone_at_five])
@pytest.mark.timeout(60)
def test_a_worker_that_dies_is_an_error_that_names_what_it_was_at(task):
    with pytest.raises(WorkerDeathError, match=r"^5: the worker that read it died"):
        list(in_order(task, NAMES, 2))


@pytest.mark.timeout(60)
def test_a_worker_that_fails_says_at_what_and_why():
    with pytest.raises(WorkerError, match=r"(?s)^5: .*five is not to be found"):
        list(in_order(failing_at_five, NAMES, 2))


def test_results_that_wait_are_bounded(tmp_path):
    names = [f"{number}" for number in range(100)]
    with closing(in_order(partial(told, tmp_path), names, 2)) as results:
        assert next(results) == "0"
        time.sleep(1)
    assert len((tmp_path / "begun").read_text().splitlines()) <= 1 + 2 * 4


def damaged(whole: Path, folder: Path, rng: random.Random) -> None:
    """A copy with blows in some tars, a doubled sample, a column cut, and perhaps no ledger."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    tars = sorted((folder / "shards").glob("*.tar"))
    first = next(tar for tar in tars if tar.name == "train-000000.tar")
    write_tar(first, [*read_tar(first), *read_tar(first)[:3]], mtime=rng.randrange(2))
    for path in rng.sample(tars, rng.randrange(1, 5)):
        data = bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 20])):
            at = rng.randrange(len(data) // 512) * 512 + rng.randrange(512)
            data[at] ^= rng.randrange(1, 256)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
    shutil.copy(rng.choice(tars), folder / "shards" / "train-000007.tar")
    if rng.random() < 0.3:
        (folder / "ledger.json").unlink()


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), quick=st.booleans())
def test_the_report_is_byte_identical_for_any_number_of_workers(whole, tmp_path_factory, seed, quick):
    folder = tmp_path_factory.mktemp("damaged") / "mixture"
    damaged(whole, folder, random.Random(seed))
    reports = {audit(folder, workers, quick).to_json() for workers in (1, 2, 3)}
    assert len(reports) == 1
    assert '"key_twice"' in reports.pop()


def test_a_sample_in_three_tars_is_met_twice_for_any_number_of_workers(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "mixture")
    names = [f"shards/train-{number:06d}.tar" for number in range(3)]
    extra = read_tar(folder / names[0])[:3]
    for name in names[1:]:
        write_tar(folder / name, [*read_tar(folder / name), *extra])
    reports = [audit(folder, workers) for workers in (1, 2)]
    twice = [f for f in reports[0].findings if f.code is Code.KEY_TWICE]
    assert [(f.shard, f.message) for f in twice] == [
        (name, f"this key was met before, in {names[0]}") for name in names[1:]
    ]
    assert reports[0] == reports[1]


def test_without_a_ledger_a_tar_of_other_members_is_found_once(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "mixture")
    (folder / "ledger.json").unlink()
    for path in (folder / "shards").glob("*.internvideo2.tar"):
        path.unlink()
    last = folder / "shards/train-000003.tar"
    write_tar(last, [(n, d) for n, d in read_tar(last) if not n.endswith(".siglip.npy")])
    found = audit(folder, 2).finding_counts
    assert found == {Code.LEDGER_UNREADABLE: 1, Code.MEMBERS_DIFFER: 1}


codes = st.lists(st.tuples(st.sampled_from([Code.TAR_HEADER, Code.KEY_TWICE]), st.integers(1, 150)), max_size=6)


@given(st.lists(codes, max_size=4))
def test_logs_put_together_are_one_log(parts):
    one, merged = FindingLog(), FindingLog()
    for number, part in enumerate(parts):
        log = FindingLog()
        for code, times in part:
            for time_ in range(times):
                one.add(code, f"{number} {time_}")
                log.add(code, f"{number} {time_}")
        merged.merge(log)
    assert (merged.kept, merged.counts) == (one.kept, one.counts)
    assert all(isinstance(finding, Finding) for finding in merged.kept)
    assert all(len([f for f in merged.kept if f.code is code]) <= KEPT_A_CODE for code in Code)


def test_counts_put_together_leave_no_field_out(whole):
    """A field that `merge` forgets would be empty, or the first tar's alone."""
    ledger = Ledger.read(whole)
    parts = [
        audit_shard(whole, ledger, False, None, f"shards/train-{number:06d}.tar").recount for number in range(2)
    ]
    for part in parts:  # the arrays of this mixture lost nothing
        part.add_losses(3, {"siglip": StorageLoss(cosine=0.9, relative_error=0.1)})
    merged = Recount()
    for part in parts:
        merged.merge(part)
    for field in fields(Recount):
        one, two, both = (getattr(each, field.name) for each in (*parts, merged))
        if field.name == "unnamed":
            continue  # every medium of this mixture has a digest
        assert both, field.name
        assert both != one or one == two, field.name
    assert len(merged.keys) == len(parts[0].keys) + len(parts[1].keys)
    assert sum(map(len, merged.order.values())) == 24


def test_workers_are_started_where_they_have_something_to_do(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [worth_starting(size << 30) for size in (0, 1, 3, 8, 1000)] == [1, 1, 3, 8, 8]
