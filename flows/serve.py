"""`make server`: a Prefect server with the deployments of prefect.yaml, and a worker, until Ctrl-C.

    server (its log in a file) -> work pool -> lost-runs automation -> deployments -> worker (its log here)

The address is that of prefect.toml, or of PREFECT_API_URL. All that Prefect keeps lies in
`build/prefect`, or in PREFECT_HOME. Run it in the repository's folder. With `--worker-only` the
server runs elsewhere already (infra/compose.yaml), and the rest is the same.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NoReturn
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import typer
import yaml

POOL = "local-pool"
AUTOMATION = Path("infra/prefect/lost-runs.yaml")
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")

HEALTHY_WITHIN_S = 180.0
"""A new database takes 12 s on a quiet machine; a busy one is given its time."""
STOP_WITHIN_S = 20.0
"""Seconds for a running build to stop its actors, before it is killed."""
LOOK_EVERY_S = 0.25

Process = subprocess.Popen[bytes]


class ServeError(RuntimeError):
    """The server, the deployments or the worker cannot run; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM (exit code 0), or until something fails (1)."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description="Prefect server and worker.")
    parser.add_argument("--worker-only", action="store_true", help="the server of PREFECT_API_URL runs elsewhere")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell's background job ignores Ctrl-C, and so would the worker, which stops by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        serve(_settle_home(), options.worker_only)
    except ServeError as error:
        typer.echo(f"server: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        typer.echo("server: stopped")
        return 0


def serve(home: Path, worker_only: bool) -> NoReturn:
    """Starts everything, then waits. Ends by an exception only; nothing that was started outlives it."""
    # Only here: Prefect reads its settings, and makes its home, when it is imported.
    from prefect.settings import get_current_settings

    url = str(get_current_settings().api.url)
    processes: dict[str, Process] = {}
    with ExitStack() as stack:
        if not worker_only:
            log = home / "server.log"
            processes[f"server (its log: {log})"] = stack.enter_context(_server(url, log))
        _wait_healthy(url, processes)
        _register()
        worker = (*PREFECT, "worker", "start", "--pool", POOL, "--name", "local")
        processes["worker"] = stack.enter_context(_running(worker))
        typer.echo(_what_next(url))
        while True:
            _need_alive(processes)
            time.sleep(LOOK_EVERY_S)


def _settle_home() -> Path:
    if not Path("prefect.yaml").is_file():
        raise ServeError(f"no prefect.yaml in {Path.cwd()}: run it in the repository's folder")
    home = Path(os.environ.setdefault("PREFECT_HOME", str(Path("build/prefect").absolute())))
    # Prefect forgets its home when it stores the exception of a failed run.
    os.environ.setdefault("PREFECT_LOCAL_STORAGE_PATH", str(home / "storage"))
    home.mkdir(parents=True, exist_ok=True)
    return home


@contextmanager
def _server(url: str, log: Path) -> Iterator[Process]:
    address = urlsplit(url)
    host, port = address.hostname or "127.0.0.1", address.port or 4200
    _need_free(host, port)
    typer.echo(f"starting a Prefect server on {host}:{port} (its log: {log})")
    command = (*PREFECT, "server", "start", "--host", host, "--port", str(port))
    with log.open("wb") as output, _running(command, output) as process:
        yield process


def _need_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"cannot listen on {host}:{port} ({error.strerror}): stop what runs there, or choose another "
                f"port, in this shell and the next: export PREFECT_API_URL=http://127.0.0.1:{port + 1}/api"
            ) from None


@contextmanager
def _running(command: Sequence[str], output: IO[bytes] | None = None) -> Iterator[Process]:
    """A process in a group of its own; at the end the whole group stops, whatever it started."""
    # The command is ours, the address is from Prefect's settings; there is no shell.
    process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)  # noqa: S603
    try:
        yield process
    finally:
        # A second Ctrl-C must not leave half of it running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _stop(process)


def _stop(process: Process) -> None:
    deadline = time.monotonic() + STOP_WITHIN_S
    try:
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()  # reaps the leader, so that an empty group is seen as such
            os.killpg(process.pid, 0)
            time.sleep(LOOK_EVERY_S)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the group is empty
    process.wait()


def _wait_healthy(url: str, processes: dict[str, Process]) -> None:
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    while time.monotonic() < deadline:
        _need_alive(processes)
        try:
            # The address is the one that every Prefect command here talks to.
            with urlopen(f"{url}/health", timeout=5):  # noqa: S310
                return
        except (URLError, TimeoutError):
            time.sleep(LOOK_EVERY_S)
    raise ServeError(f"no healthy Prefect server at {url} after {HEALTHY_WITHIN_S:g} s")


def _need_alive(processes: dict[str, Process]) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            raise ServeError(f"the {name} ended with exit code {process.returncode}")


def _register() -> None:
    """Puts the work pool, the automation and the deployments on the server; safe to repeat."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.events.schemas.automations import AutomationCore
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    automation = AutomationCore.model_validate(yaml.safe_load(AUTOMATION.read_text(encoding="utf-8")))
    with get_client(sync_client=True) as client:
        pool = WorkPoolCreate(name=POOL, type="process", base_job_template=template)
        client.create_work_pool(pool, overwrite=True)
        known = client.read_automations_by_name(automation.name)
        # One that stands unchanged is kept: it remembers the runs whose heartbeats it waits for.
        if [old.model_dump(exclude={"id"}) for old in known] != [automation.model_dump()]:
            for old in known:
                client.delete_automation(old.id)
            client.create_automation(automation)
    # The list of arguments is ours; there is no shell.
    done = subprocess.run((*PREFECT, "deploy", "--all"), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ServeError(f"prefect deploy failed:\n{done.stdout}{done.stderr}")


def _what_next(url: str) -> str:
    # The shell's own `prefect` only if it is this environment's.
    mine, found = Path(sys.executable).with_name("prefect"), shutil.which("prefect")
    command = "prefect" if found and Path(found) == mine else os.path.relpath(mine)
    if "PREFECT_API_URL" in os.environ:
        command = f"PREFECT_API_URL={url} {command}"
    return (
        f"\nPrefect pages: {url.removesuffix('/api')}\nIn another shell, in this folder:\n\n"
        f"    {command} deployment run build-mixture/local -p recipe=demo --watch\n\n"
        "Ctrl-C stops all of this.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
