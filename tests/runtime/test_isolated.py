"""Laws of `Isolated`: whatever the child does, the parent gets a value or an error of ours, and leaks nothing."""

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pipeline.runtime.isolated import (
    ChildDied,
    ChildRaised,
    DeadlineExceeded,
    Isolated,
    IsolatedError,
)


def isolated(target, deadline_s=20.0, memory_mb=2048):
    return Isolated(target, deadline_s=deadline_s, memory_mb=memory_mb)


def runs(pid):
    """Whether it runs; one that ended may wait long for an init process to reap it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_gone(pid, seconds=5.0):
    end = time.monotonic() + seconds
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not runs(pid)


def test_a_value_comes_back_whole_whatever_its_size():
    arrays = {"empty": np.zeros((0, 3), np.uint8), "large": np.arange(8_000_000).reshape(2, -1), "text": "\x00é"}
    with isolated("copy:copy") as child:
        back = child.call(arrays)
        assert back["text"] == arrays["text"]
        for name in ("empty", "large"):
            np.testing.assert_array_equal(back[name], arrays[name])
            assert not back[name].flags.writeable
        assert child.call(None) is None


def test_one_child_serves_many_calls():
    with isolated("os:getpid") as child:
        assert {child.call() for _ in range(20)} == {child.pid}


def test_the_child_starts_in_under_a_second_without_torch_or_ray():
    begun = time.monotonic()
    with isolated("builtins:eval") as child:
        loaded = child.call("set(__import__('sys').modules)")
        assert time.monotonic() - begun < 5  # 0.1 s alone; the machine may be shared
    assert not loaded & {"torch", "ray", "av", "numpy", "pydantic"}


def test_a_function_that_never_returns_is_killed_at_its_deadline():
    child = isolated("time:sleep", deadline_s=0.2)
    child.start()
    pid, begun = child.pid, time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"time:sleep gave no answer within 0\.2 s") as caught:
        child.call(1000)
    assert isinstance(caught.value, TimeoutError)
    assert time.monotonic() - begun < 3
    assert wait_gone(pid)
    assert child.call(0) is None  # served by a fresh one
    child.close()


START_SLEEPER = """
import os, subprocess, time
from functools import partial
from pipeline.runtime.isolated import die_with_parent
tie = partial(die_with_parent, os.getpid())
with open({pids!r}, "a") as pids:
    print(subprocess.Popen(["sleep", "300"], preexec_fn={tie}).pid, file=pids)
{ends}
"""


def sleepers(pids):
    return [int(line) for line in pids.read_text().split()]


@pytest.mark.parametrize("ends", ["time.sleep(300)", "os._exit(5)", "os.abort()", "pass"])
def test_what_the_function_started_dies_with_its_process(ends, tmp_path):
    pids = tmp_path / "pids"
    with isolated("builtins:exec", deadline_s=0.5) as child, suppress(IsolatedError):
        child.call(START_SLEEPER.format(pids=str(pids), tie=None, ends=ends))
    assert sleepers(pids)
    assert all(wait_gone(pid) for pid in sleepers(pids))


def test_what_an_idle_child_started_dies_when_the_child_is_replaced(tmp_path):
    pids = tmp_path / "pids"
    with isolated("builtins:exec") as child:
        child.call(START_SLEEPER.format(pids=str(pids), tie=None, ends="pass"))
        os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.1)
        child.call("")
        assert wait_gone(*sleepers(pids))


def test_a_program_tied_to_the_child_dies_with_a_child_that_is_killed_alone(tmp_path):
    pids = tmp_path / "pids"
    with isolated("builtins:exec") as child:
        child.call(START_SLEEPER.format(pids=str(pids), tie="tie", ends="pass"))
        os.kill(child.pid, signal.SIGKILL)
        assert wait_gone(*sleepers(pids))


def test_ctrl_c_reaches_the_parent_alone():
    with isolated("os:getpgrp") as child:
        assert child.call() == child.pid != os.getpgrp()


def test_a_request_that_the_child_does_not_read_falls_under_the_deadline():
    child = isolated("copy:copy", deadline_s=0.3)
    child.start()
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded):
        child.call(bytes(50_000_000))
    child.close()


@pytest.mark.parametrize(
    ("target", "arguments", "code", "words"),
    [
        ("ctypes:string_at", (0,), -signal.SIGSEGV, "signal 11"),
        ("os:abort", (), -signal.SIGABRT, "signal 6"),
        ("os:_exit", (3,), 3, "exit status 3"),
        ("os:_exit", (0,), 0, "exit status 0"),
        ("numpy:ones", (4_000_000_000,), 71, "memory limit of 300 MiB"),
        ("builtins:list", (range(10**9),), 71, "memory limit of 300 MiB"),
        ("builtins:bytearray", (301 << 20,), 71, "memory limit of 300 MiB"),
    ],
)
def test_a_death_is_told_apart_by_its_cause_and_the_next_call_works(target, arguments, code, words):
    with isolated(target, memory_mb=300) as child:
        with pytest.raises(ChildDied, match=words) as caught:
            child.call(*arguments)
        assert caught.value.exit_code == code
        assert child.pid is None
        with pytest.raises(ChildDied):
            child.call(*arguments)


def test_room_under_the_memory_limit_can_be_asked_for():
    with isolated("pipeline.runtime.isolated:check_room", memory_mb=300) as child:
        assert child.call(100 << 20) is None
        with pytest.raises(ChildDied, match="memory limit of 300 MiB"):
            child.call(300 << 20)


def test_last_words_of_a_dead_child_are_kept():
    with isolated("builtins:exec") as child, pytest.raises(ChildDied, match="heap is broken"):
        child.call("import os; os.write(2, b'heap is broken'); os.abort()")


def test_a_child_that_shuts_its_channel_is_a_dead_child():
    with isolated("builtins:exec") as child, pytest.raises(ChildDied) as caught:
        child.call("import os; os.closerange(3, 100); import time; time.sleep(0.2); os._exit(9)")
    assert caught.value.exit_code == 9


def test_an_exception_comes_back_with_its_type_and_message_and_the_child_lives_on():
    with isolated("builtins:int") as child:
        pid = child.pid
        with pytest.raises(ChildRaised, match="ValueError: invalid literal") as caught:
            child.call("seven")
        assert caught.value.type_name == "ValueError"
        assert child.call("7") == 7
        assert child.pid == pid


def test_printing_harms_neither_the_channel_nor_our_output(capfd):
    with isolated("builtins:print") as child:
        assert child.call("x" * 100_000) is None
    with isolated("os:write") as child:
        assert child.call(1, b"to stdout") == 9
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("target", ["no_such_module:f", "os:no_such_function", "os"])
def test_a_function_that_cannot_be_imported_is_named_at_the_start(target):
    child = isolated(target)
    with pytest.raises(ChildRaised, match="cannot load"):
        child.start()
    assert child.pid is None


def test_a_late_reply_never_answers_the_next_call():
    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with isolated("subprocess:getoutput") as child:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                child.call("sleep 0.5; echo late")
            assert child.call("sleep 0.5; echo next") == "next"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_child_that_died_between_calls_is_replaced_without_a_word():
    with isolated("os:getpid") as child:
        pid = child.call()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        assert child.call() != pid


def test_a_child_that_ended_by_itself_between_calls_is_replaced_too():
    with isolated("builtins:exec") as child:
        pid = child.pid
        child.call("import os, threading; threading.Timer(0.05, os._exit, (3,)).start()")
        assert wait_gone(pid)
        child.call("")
        assert child.pid != pid


def test_nothing_is_leaked_and_close_may_be_called_twice():
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before, pids = descriptors(), []
    for target, arguments in [("os:getpid", ()), ("os:_exit", (1,)), ("time:sleep", (9,))] * 3:
        child = isolated(target, deadline_s=0.2)
        child.start()
        pids.append(child.pid)
        with suppress(IsolatedError):
            child.call(*arguments)
        child.close()
        child.close()
    assert descriptors() == before
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_it_travels_before_it_is_started():
    with pickle.loads(pickle.dumps(isolated("builtins:abs"))) as child:  # noqa: S301
        assert child.call(-2) == 2


@pytest.mark.parametrize("busy", [True, False])
def test_the_child_dies_with_a_parent_that_is_killed(busy, tmp_path):
    script = tmp_path / "no_main_guard.py"
    script.write_text(
        "from pipeline.runtime.isolated import Isolated\n"
        "child = Isolated('time:sleep', deadline_s=999, memory_mb=512)\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n" + ("child.call(999)\n" if busy else "input()\n")
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    try:
        pid = int(parent.stdout.readline())
        time.sleep(0.1)
        assert Path(f"/proc/{pid}").exists()
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        parent.stdin.close()
    assert wait_gone(pid)


def test_a_child_killed_from_outside_during_a_call_is_asked_once_more(tmp_path):
    mark = tmp_path / "killed"
    once = f"""
import os, pathlib
mark = pathlib.Path({str(mark)!r})
if not mark.exists():
    mark.touch()
    os.kill(os.getpid(), 9)
"""
    with isolated("builtins:exec") as child:
        assert child.call(once) is None
        with pytest.raises(ChildDied, match="signal 9"):  # a request that kills each time is its own fault
            child.call("import os; os.kill(os.getpid(), 9)")


def test_a_child_killed_from_outside_while_it_starts_is_started_once_more(tmp_path, monkeypatch):
    mark, module = tmp_path / "killed", tmp_path / "dies_at_first.py"
    module.write_text(
        f"import os, pathlib\ntext = str\nmark = pathlib.Path({str(mark)!r})\n"
        "if not mark.exists():\n    mark.touch()\n    os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with isolated("dies_at_first:text") as child:
        assert child.call(7) == "7"
    assert mark.exists()
    module.write_text("import os\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(ChildDied, match="signal 9"), isolated("dies_at_first:text"):
        pass
