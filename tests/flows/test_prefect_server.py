"""`make server` and `prefect deployment run`, as a person uses them: a real server and a real worker."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest
from mini import contents, environment, mini_recipe, mixture, write_recipe

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def server(tmp_path):
    """Serves on a free port, with a home of its own, until the test ends; then nothing of it may be left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    (tmp_path / "user").mkdir()
    homes = {"HOME": str(tmp_path / "user"), "PREFECT_HOME": str(tmp_path / "prefect")}
    shell = {**environment(), **homes, "PREFECT_API_URL": url}
    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "flows.serve"]
        process = subprocess.Popen(command, cwd=ROOT, env=shell, stdout=output, stderr=output)
    try:
        wait_for(lambda: "Worker 'local' started!" in log.read_text() or process.poll() is not None, 240)
        assert process.poll() is None, log.read_text()
        yield SimpleNamespace(process=process, url=url, shell=shell, log=log, user=tmp_path / "user")
    finally:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
            process.wait()


def run_deployment(server, **parameters):
    """What the server tells a person to type; the words of its answer, lines joined."""
    hint = re.search(
        r"^ +(?:PREFECT_API_URL=\S+ )?(\S+) deployment run (\S+) ", server.log.read_text(), re.MULTILINE
    )
    command = [hint[1], "deployment", "run", hint[2], "--watch"]
    for name, value in parameters.items():
        command += ["-p", f"{name}={value}"]
    done = subprocess.run(
        command, cwd=ROOT, env={**server.shell, "COLUMNS": "1000"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.25)


def pids_of(server):
    return [child.pid for child in psutil.Process(server.process.pid).children(recursive=True)]


def test_a_deployed_build_has_the_commands_bytes_and_a_mistake_is_explained(server, tmp_path):
    path = write_recipe(tmp_path, mini_recipe(tmp_path))
    assert mixture("build", path, env=environment()).returncode == 0
    folders = {"workspace": tmp_path / "workspace2", "output": tmp_path / "out2"}
    code, said = run_deployment(server, recipe=path, **folders)
    assert code == 0, said
    assert "audit passed, 44 samples" in said
    assert contents(tmp_path / "out2") == contents(tmp_path / "out")

    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\ntotal: 3\n")
    code, said = run_deployment(server, recipe=bad)
    assert code == 1
    assert f"{bad}:2: total: no such field" in said
    assert "Traceback" not in said
    assert "Traceback" not in server.log.read_text()

    def rows(kind):
        return httpx.post(f"{server.url}/{kind}/filter", json={}).json()

    assert {run["name"]: run["state_type"] for run in rows("flow_runs")} == {
        "mini": "COMPLETED",
        "bad.yaml": "FAILED",
    }
    steps = {"ingest", "plan", "produce", "shards", "audit", "publish"}
    assert {task["name"] for task in rows("task_runs")} == steps
    assert {"mini-summary", "mini-shares"} <= {artifact["key"] for artifact in rows("artifacts")}
    assert [automation["name"] for automation in rows("automations")] == ["lost-runs"]
    assert list(server.user.iterdir()) == []

    left = pids_of(server)
    assert left
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(60) == 0
    assert not any(psutil.pid_exists(pid) for pid in left)


def test_when_the_server_dies_the_worker_is_stopped_and_the_exit_code_says_so(server):
    children = psutil.Process(server.process.pid).children()
    doomed = next(child for child in children if "server" in child.cmdline())
    os.kill(doomed.pid, signal.SIGKILL)
    left = pids_of(server)
    assert server.process.wait(60) == 1
    assert re.search(r"the server \(its log: .*server.log\) ended with exit code -9", server.log.read_text())
    assert not any(psutil.pid_exists(pid) for pid in left)
