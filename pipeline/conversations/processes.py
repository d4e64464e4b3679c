"""Families of processes: who belongs to one, how all of it is ended, and how it ends with its owner.

vLLM's core and its workers are processes below ours. A worker outlives a core that was killed, a core outlives a
parent that was killed, and one that is stopped hears nothing. So a family is remembered while it is whole.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

OWNER = "MIXTURE_ENGINE_OWNER"
"""Environment variable: the process whose end ends those that inherit it."""


def family(roots: Iterable[int]) -> "set[psutil.Process]":
    """The processes of these ids and all below them, as far as they live."""
    import psutil

    found: set[psutil.Process] = set()
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            found |= {process, *process.children(recursive=True)}
    return found


def end(processes: "Iterable[psutil.Process]", within_s: float = 30.0) -> "list[psutil.Process]":
    """Kills them, also those that are stopped, and waits. Answers those that are there all the same."""
    import psutil

    alive = list(processes)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + within_s
    while (alive := [process for process in alive if not _gone(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _gone(process: "psutil.Process") -> bool:
    import psutil

    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end_with_owner() -> None:
    """Ends this process when its owner ends, however that comes. vLLM calls it in each of its processes (a plugin).

    The kernel's own signal for this (PR_SET_PDEATHSIG) follows the thread that started a process, not that thread's
    process.
    """
    owner = int(os.environ.get(OWNER, "0"))
    if owner in (0, os.getpid()):
        return
    try:
        handle = os.pidfd_open(owner)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_outlast, args=(handle,), name="end-with-owner", daemon=True).start()


def _outlast(handle: int) -> None:
    select.select([handle], [], [])
    os.kill(os.getpid(), signal.SIGKILL)
