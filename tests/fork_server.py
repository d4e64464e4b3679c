"""Runs the command `mixture` many times without its imports: a process that forks one for each request.

Reads a line of JSON, `[arguments, point]`, answers the process id, then, when that process ended, its exit status.
The point is a name of `crash_points.POINTS`, or `[nth step, whether before it]`, or null for none. What the command
prints goes to the file that the environment names.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
LOADED = (
    "boto3", "torch", "transformers", "jinja2", "pyarrow.parquet", "flows.cli", "flows.build", "flows.tables",
    "pipeline.features.siglip", "pipeline.features.internvideo2", "pipeline.audit.report",
    "pipeline.ingest.llava.source", "pipeline.ingest.shapes.source", "pipeline.ingest.shapes.render",
)  # fmt: skip
"""What a build imports as it goes."""


class ForkServer:
    """One such process, as a test drives it: one command at a time."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, __file__], env={**env, "FORKED_LOG": str(log)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=TESTS.parent,
        )  # fmt: skip
        assert self._told() == "ready"

    def start(self, arguments: Sequence[object], die: str | tuple[int, bool] | None = None) -> int:
        """The process id of a command that begins now; it leads a process group of its own."""
        self.log.write_bytes(b"")
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([[str(each) for each in arguments], die]) + "\n")
        self._process.stdin.flush()
        return int(self._told())

    def status(self) -> int:
        """Waits for its end; minus the signal's number where one ended it."""
        return int(self._told())

    def run(self, arguments: Sequence[object], die: str | tuple[int, bool] | None = None) -> int:
        """Its exit status."""
        self.start(arguments, die)
        return self.status()

    def stop(self) -> None:
        """Ends the server."""
        self._process.kill()
        self._process.communicate()

    def _told(self) -> Any:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _serve() -> None:
    import importlib

    from crash_points import lay_trap

    trap = lay_trap()
    for name in LOADED:
        importlib.import_module(name)
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        arguments, die = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(arguments, die, trap)
        print(pid, flush=True)  # noqa: T201
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _run(arguments: list[str], die: str | list[Any] | None, trap: Any) -> None:
    from crash_points import POINTS, Step

    from flows.cli import main

    os.setpgid(0, 0)
    log = os.open(os.environ["FORKED_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (0, 1, 2):
        os.dup2(log if stream else os.open(os.devnull, os.O_RDONLY), stream)
    if die:
        trap.set(POINTS[die] if isinstance(die, str) else Step(*die))
    sys.argv = ["mixture", *arguments]
    code = 70
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - told, and then it ends
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    _serve()
