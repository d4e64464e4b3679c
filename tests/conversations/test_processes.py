"""Families of processes end whole: when they are told to, also stopped ones, and when their owner dies."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from pipeline.conversations.processes import OWNER, end, end_with_owner, family

SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
"""As deaf to SIGTERM as vLLM's core, which takes note of it and goes on."""
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); time.sleep(600)"
HEIR = (
    "import time; from pipeline.conversations.processes import end_with_owner; end_with_owner(); "
    "print('ready', flush=True); time.sleep(600)"
)


def until(condition, within_s=20.0):
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def parent():
    """A process that has a child."""
    process = subprocess.Popen([sys.executable, "-c", PARENT])
    assert until(lambda: len(family([process.pid])) == 2)
    known = family([process.pid])
    yield process
    for each in known:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def test_a_family_is_remembered_beyond_its_parent_and_ends_whole_though_stopped(parent):
    known = family([parent.pid])
    (child,) = [each for each in known if each.pid != parent.pid]
    child.suspend()
    parent.kill()
    parent.wait()
    assert not ended(child)
    assert end(known) == []
    assert ended(child)


def test_ids_that_are_gone_have_no_family(parent):
    pid = parent.pid
    for each in family([pid]):
        each.kill()
    parent.wait()
    assert family([pid]) == set()
    assert end([]) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
def test_an_heir_ends_with_its_owner(how):
    owner = subprocess.Popen([sys.executable, "-c", SLEEPER])
    environment = {**os.environ, OWNER: str(owner.pid)}
    heir = subprocess.Popen([sys.executable, "-c", HEIR], env=environment, stdout=subprocess.PIPE, text=True)
    assert heir.stdout.readline() == "ready\n"
    assert heir.poll() is None
    owner.send_signal(how)
    owner.wait()
    assert heir.wait(timeout=20) == -signal.SIGKILL


def test_an_heir_whose_owner_is_gone_already_ends_at_once():
    owner = subprocess.Popen([sys.executable, "-c", "pass"])
    owner.wait()
    heir = subprocess.Popen([sys.executable, "-c", HEIR], env={**os.environ, OWNER: str(owner.pid)})
    assert heir.wait(timeout=20) == -signal.SIGKILL


def test_who_has_no_owner_or_is_it_lives_on(monkeypatch):
    monkeypatch.delenv(OWNER, raising=False)
    end_with_owner()
    monkeypatch.setenv(OWNER, str(os.getpid()))
    end_with_owner()
    assert "end-with-owner" not in {thread.name for thread in threading.enumerate()}
