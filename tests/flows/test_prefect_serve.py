"""Laws of `make server` that need no server: clear refusals, and nothing that outlives it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows import serve

ROOT = Path(__file__).parents[2]

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def signals():
    """Stopping makes this process deaf to signals: give it back its ears."""
    kept = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    yield
    for name, handler in kept.items():
        signal.signal(name, handler)


def serve_from(folder, home, **environment):
    command = [sys.executable, "-m", "flows.serve"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home), **environment}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_port_in_use_is_refused_with_the_way_out(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = serve_from(ROOT, tmp_path, PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in done.stderr
    assert f"export PREFECT_API_URL=http://127.0.0.1:{port + 1}/api" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_folder_than_the_repositorys_is_refused_and_stays_empty(tmp_path):
    done = serve_from(tmp_path, tmp_path / "home")
    assert done.returncode == 1
    assert "no prefect.yaml" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_ignores_a_stop_is_killed_with_its_children(signals, monkeypatch, tmp_path):
    monkeypatch.setattr(serve, "STOP_WITHIN_S", 1.0)
    log = tmp_path / "log"
    with log.open("wb") as output, serve._running([sys.executable, "-c", STUBBORN], output) as process:
        while not log.read_text().endswith("\n"):
            time.sleep(0.05)
        pids = [process.pid, int(log.read_text())]
        assert all(psutil.pid_exists(pid) for pid in pids)
    deadline = time.monotonic() + 5  # a killed process takes a moment to die
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_end_of_a_child_is_an_error_that_names_it(signals):
    with serve._running([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
        with pytest.raises(serve.ServeError, match="the worker ended with exit code 3"):
            serve._need_alive({"worker": process})


def alive(pid):
    """A zombie is dead: only its parent's book still names it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
