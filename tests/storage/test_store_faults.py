"""Laws of a store behind a bad network: each fault alone where it hurts most, then all of them by chance."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fault_proxy import FAULTS

from pipeline.storage import completing, retries
from pipeline.storage.files import attempt_path, commit, copy, link, published, read_range, remains, remove_tree

LARGE = os.urandom(17 * 2**20)
"""Three parts."""
EACH = [
    pytest.param(fault, marks=() if fault in {"500", "lost", "cut"} else pytest.mark.slow)
    for fault in FAULTS
    if fault != "stale"
]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_WHEN_BUSY_S", 0.02)
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)


def once(fault, *operations):
    """A plan: the fault on the first request of each kind."""
    left = set(operations)

    def plan(asked):
        if asked.operation in left:
            left.remove(asked.operation)
            return fault
        return None

    return plan


@pytest.mark.parametrize("fault", EACH)
@pytest.mark.parametrize("size", [10, len(LARGE)], ids=["small", "in parts"])
def test_a_write_outlives_each_fault_of_each_request(proxied, fault, size):
    path = proxied.folder / "file"
    path.write_bytes(b"old")
    proxied.plan = once(fault, "Put", "Create", "Part", "Complete", "Head")
    with published(path) as attempt:
        attempt.write_bytes(LARGE[:size])
    assert path.read_bytes() == LARGE[:size]
    assert {operation for operation, _, made in proxied.log if made} >= (
        {"Put"} if size == 10 else {"Create", "Part", "Complete"}
    )


@pytest.mark.parametrize("fault", ["lost", "twice", "cut"])
@pytest.mark.parametrize("size", [10, len(LARGE)], ids=["small", "in parts"])
def test_a_write_that_took_effect_and_was_refused_the_second_time_is_known_as_its_own(proxied, fault, size):
    path = proxied.folder / "file"
    proxied.plan = once(fault, "Put", "Complete")
    with path.open("xb") as file:
        file.write(LARGE[:size])
    assert path.read_bytes() == LARGE[:size]
    proxied.plan = once("lost", "Head")
    with pytest.raises(FileExistsError, match="an object is there already"):
        path.open("xb")


def test_an_answer_lost_to_the_last_attempt_is_no_loss(proxied):
    path = proxied.folder / "file"
    proxied.plan = lambda asked: "lost" if asked.operation == "Complete" else None
    path.write_bytes(LARGE)
    assert path.read_bytes() == LARGE


@pytest.mark.parametrize("size", [10, len(LARGE)], ids=["small", "in parts"])
def test_of_two_that_write_anew_at_once_a_store_with_conditions_takes_one(store, size):
    from pipeline.storage.places import S3Path

    path = S3Path("models", "file")
    first, second = path.open("xb"), path.open("xb")
    first.write(LARGE[:size])
    second.write(LARGE[:size][::-1])
    second.close()
    with pytest.raises(FileExistsError, match="an object is there already"):
        first.close()
    assert path.read_bytes() == LARGE[:size][::-1]


def test_where_a_store_refuses_conditions_a_new_object_is_written_without(proxied):
    path = proxied.folder / "file"
    answered = []

    def refuse(store, *what):
        answered.append(what[-1])
        if what[-1]:
            from botocore.exceptions import ClientError

            raise ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
        return put(store, *what)

    put = completing._put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completing, "_put", refuse)
        with path.open("xb") as file:
            file.write(b"x")
    assert path.read_bytes() == b"x"
    assert answered == [{"IfNoneMatch": "*"}, {}]


@pytest.mark.parametrize("fault", EACH)
def test_a_reading_outlives_each_fault(proxied, fault):
    path = proxied.folder / "file"
    path.write_bytes(LARGE)
    proxied.plan = once(fault, "Head", "Get")
    assert path.read_bytes() == LARGE
    proxied.plan = once(fault, "Get")
    assert read_range(path, 5, 2**20) == LARGE[5 : 5 + 2**20]
    assert proxied.faults()[fault] == 3


@pytest.mark.parametrize("fault", EACH)
def test_moves_and_removals_outlive_each_fault(proxied, fault):
    old, new = proxied.folder / "old", proxied.folder / "new"
    old.write_bytes(b"body")
    proxied.plan = once(fault, "Put", "Delete", "Head")
    old.replace(new)
    assert new.read_bytes() == b"body"
    proxied.plan = once(fault, "List", "DeleteMany", "Delete")
    remove_tree(proxied.folder)
    proxied.plan = lambda _: None
    assert list(proxied.folder.rglob("*")) == []


def test_a_stale_list_hides_nothing_that_is_asked_by_name(proxied):
    assert list(proxied.folder.iterdir()) == []
    proxied.plan = lambda asked: "stale" if asked.operation == "List" else None
    path = proxied.folder / "file"
    with published(path) as attempt:
        attempt.write_bytes(b"x")
    assert list(proxied.folder.iterdir()) == []
    assert path.exists()
    assert path.read_bytes() == b"x"


def test_a_fault_that_stays_ends_in_an_error_and_nothing_visible(proxied, monkeypatch):
    monkeypatch.setattr(retries, "ATTEMPTS", 2)
    for operation, size in (("Put", 10), ("Create", len(LARGE)), ("Part", len(LARGE)), ("Complete", len(LARGE))):
        proxied.plan = lambda asked, operation=operation: "503" if asked.operation == operation else None
        with pytest.raises(OSError, match=r"failed time and again .*run the same command again later"):
            (proxied.folder / operation).write_bytes(LARGE[:size])
        assert not (proxied.folder / operation).exists()
    proxied.plan = lambda _: None
    assert remains(proxied.folder) == []


def test_a_writer_that_failed_takes_no_more_and_publishes_nothing(proxied, monkeypatch):
    monkeypatch.setattr(retries, "ATTEMPTS", 1)
    path = proxied.folder / "file"
    for operation in ("Create", "Part"):
        proxied.plan = lambda asked, operation=operation: "500" if asked.operation == operation else None
        file = path.open("wb")
        with pytest.raises(OSError, match="run the same command again later"):
            file.write(LARGE * 3)
        proxied.plan = lambda _: None  # what passes later does not mend the gap
        for act in (lambda file=file: file.write(b"more"), file.close):
            with pytest.raises(OSError, match="a part of it could not be uploaded"):
                act()
        assert file.closed
    assert not path.exists()
    assert remains(proxied.folder) == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_any_sequence_of_writes_moves_and_removals_ends_as_on_a_disk(proxied, tmp_path, seed):
    """Also of attempts, copies and failed writes: the names and the bytes are those of a local folder."""
    proxied._seed, proxied._rate, proxied.hang_s, proxied.plan = seed, 0.2, 0.01, proxied._chance
    rng, oracle = random.Random(seed), tmp_path / "oracle"
    oracle.mkdir()
    steps = [rng.choice(STEPS) for _ in range(40)]
    for step in steps:
        state = rng.getstate()
        theirs = step(oracle, rng)
        rng.setstate(state)
        assert step(proxied.folder, rng) == theirs
    faults = proxied.faults()
    proxied.plan = lambda _: None
    assert contents(proxied.folder) == contents(oracle)
    assert len(faults) > 3


def names(rng):
    return rng.choice(["a", "b", "in/c", "in/d"])


def body_of(rng):
    return rng.randbytes(rng.choice([0, 10, 2**20, 9 * 2**20]))


def write(folder, rng):
    path = folder / names(rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body_of(rng))


def publish(folder, rng):
    path = folder / names(rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt = attempt_path(path)
    attempt.write_bytes(body_of(rng))
    commit(attempt, path) if rng.random() < 0.7 else attempt.unlink()


def write_anew(folder, rng):
    path = folder / names(rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    body = body_of(rng)
    try:
        with path.open("xb") as file:
            file.write(body)
    except FileExistsError:
        return "present"
    return "written"


def read(folder, rng):
    path = folder / names(rng)
    try:
        return path.read_bytes(), read_range(path, rng.randrange(2**20), 100), path.stat().st_size
    except FileNotFoundError:
        return "absent"


def move(folder, rng):
    source, target = folder / names(rng), folder / names(rng)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        rng.choice([lambda: source.replace(target), lambda: same_or_copied(source, target)])()
    except FileNotFoundError:
        return "absent"
    return "moved"


def same_or_copied(source, target):
    if source != target:
        target.unlink(missing_ok=True) if source.exists() else None
        link(source, target)
        body = target.read_bytes()
        target.unlink()
        target.write_bytes(body)  # a hard link that is written to would change both
        copy(target, source)


def remove(folder, rng):
    path = folder / names(rng)
    was = path.is_file()
    path.unlink(missing_ok=True)
    return was


STEPS = [write, publish, write_anew, read, move, remove]


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_proxy_runs_as_a_process_of_its_own(server, reach):
    from types import SimpleNamespace

    from pipeline.storage.places import S3Path

    server.empty()
    program = Path(__file__).parents[1] / "fault_proxy.py"
    command = [sys.executable, program, "--to", server.endpoint, "--seed", "3", "--rate", "0.3", "--faults", "500"]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        reach(SimpleNamespace(endpoint=proxy.stdout.readline().strip()))
        for index in range(20):
            S3Path("models", f"{index}").write_bytes(b"x")
    finally:
        proxy.kill()
        proxy.communicate()
    assert len([path for method, path in server.asked if method == "PUT"]) == 20


def test_an_absent_object_is_absent_though_the_answer_that_says_so_was_cut(proxied):
    path = proxied.folder / "absent"
    proxied.plan = lambda asked: "cut" if asked.operation == "Get" and asked.number == 0 else None
    assert not path.is_file()
    assert ("Get", "cut") in {(operation, fault) for operation, _, fault in proxied.log}
