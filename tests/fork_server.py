"""Runs the command `mixture` many times without its imports: a process that forks one for each request.

Reads a line of JSON, the fields of an `Order`; answers the process id and, when that process ended, its status.
"""

import atexit
import gc
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
LOADED = (
    "av", "boto3", "pandas", "transformers.models.siglip.modeling_siglip", "pyarrow.parquet", "flows.cli",
    "flows.build", "flows.gallery", "flows.tables", "pipeline.features.engine", "pipeline.features.siglip",
    "pipeline.features.internvideo2", "pipeline.audit.audit", "pipeline.audit.report", "pipeline.audit.talk_page",
    "pipeline.ingest.llava.source", "pipeline.ingest.shapes.source", "pipeline.ingest.shapes.render",
)  # fmt: skip
"""What a build imports as it goes."""


@dataclass(frozen=True)
class Order:
    """What is to be run."""

    arguments: list[str]
    out: str
    """File that takes what it prints, behind what is there."""
    err: str
    cwd: str
    die: str | list[Any] | None = None
    """Where it is killed: a name of `crash_points.POINTS`, or `[nth step, whether before it]`."""


class ForkServer:
    """One such process, as a test drives it: one command at a time."""

    def __init__(self, env: dict[str, str], log: Path, traps: bool = True) -> None:
        """`log` takes what commands print; with `traps` they can be told to die."""
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, __file__, *(["--traps"] if traps else [])], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=TESTS.parent,
        )  # fmt: skip
        assert self._told() == "ready"

    def start(self, arguments: Sequence[object], die: str | tuple[int, bool] | None = None) -> int:
        """The process id of a command that begins now; it leads a process group of its own."""
        self.log.write_bytes(b"")
        return self._start(arguments, self.log, self.log, str(TESTS.parent), die)

    def completed(self, arguments: Sequence[object], cwd: str) -> subprocess.CompletedProcess[str]:
        """As of `subprocess.run`, with what it printed."""
        out, err = (self.log.with_suffix(f".{each}") for each in ("out", "err"))
        for path in (out, err):
            path.write_bytes(b"")
        self._start(arguments, out, err, cwd)
        status = self.status()
        return subprocess.CompletedProcess(list(arguments), status, out.read_text(), err.read_text())

    def _start(self, arguments: Sequence[object], out: Path, err: Path, cwd: str, die: Any = None) -> int:
        assert self._process.stdin is not None
        order = Order([str(each) for each in arguments], str(out), str(err), cwd, die)
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
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


def _serve(traps: bool) -> None:
    import importlib

    from crash_points import lay_trap

    trap = lay_trap() if traps else None
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()  # no command's collector walks, and so copies, what all have in common
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(Order(**json.loads(line)), trap)
        print(pid, flush=True)  # noqa: T201
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _run(order: Order, trap: Any) -> None:
    """Ends as any Python does, but that the modules are not torn down, which takes seconds."""
    from crash_points import POINTS, Step

    from flows.cli import main

    os.setpgid(0, 0)
    os.chdir(order.cwd)
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(order.out, appending), 1)
    os.dup2(os.open(order.err, appending), 2)
    if order.die:
        trap.set(POINTS[order.die] if isinstance(order.die, str) else Step(*order.die))
    sys.argv = ["mixture", *order.arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - told, and then it ends
        traceback.print_exc()
        code = 1
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    _serve("--traps" in sys.argv)
