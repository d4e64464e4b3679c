"""Runs the command `mixture` many times without its imports: `python tests/fork_server.py` forks one for each request.

Reads a JSON list of arguments a line, answers the process id, then, when that process ended, its exit status. What it
prints goes to the file of the environment's FORKED_LOG.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class ForkServer:
    """One such process, as a test drives it: a build at a time."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], env={**env, "FORKED_LOG": str(log)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        assert self._told() == "ready"

    def start(self, arguments: Sequence[object]) -> int:
        """The process id of a command that begins now."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(each) for each in arguments]) + "\n")
        self._process.stdin.flush()
        return int(self._told())

    def status(self) -> int:
        """Waits for its end; as `os.waitstatus_to_exitcode` has it."""
        return int(self._told())

    def stop(self) -> None:
        """Ends the server."""
        self._process.kill()
        self._process.communicate()

    def _told(self) -> Any:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _serve() -> None:
    _load()
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(json.loads(line))
        print(pid, flush=True)  # noqa: T201
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _load() -> None:
    """What a build imports as it goes."""
    import importlib

    names = (
        "boto3", "torch", "pyarrow.parquet", "flows.cli", "flows.build", "flows.tables", "pipeline.features.siglip",
        "pipeline.features.internvideo2", "pipeline.audit.report", "pipeline.ingest.llava.source",
        "pipeline.ingest.shapes.render", "jinja2", "transformers",
    )  # fmt: skip
    for name in names:
        importlib.import_module(name)


def _run(arguments: list[str]) -> None:
    os.setsid()
    log = os.open(os.environ["FORKED_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (0, 1, 2):
        os.dup2(log if stream else os.open(os.devnull, os.O_RDONLY), stream)
    from flows.cli import main

    sys.argv = ["mixture", *arguments]
    try:
        main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(70)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    _serve()
