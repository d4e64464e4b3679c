"""Where a build can be cut in two, one by one, and a trap that kills it there.

Each point is a step of storage on a name: SIGKILL comes just before it, or just after. The product knows nothing of
this: the functions are wrapped here, before the command imports them. docs/operations.md lists the same points.
"""

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Point:
    """One step of a build."""

    step: str
    """`commit` (an attempt becomes its name), `remove` or `rename`."""
    name: str
    """Pattern of the whole path or URL of the file."""
    is_before: bool = False
    """Else just after."""
    nth: int = 1
    """Which time it is met."""
    only: str = ""
    """`local` or `store` where the other kind of output has no such step."""

    def meets(self, step: str, name: str) -> bool:
        """Whether a step is this one."""
        return step == self.step and re.search(self.name, name) is not None


POINTS = {
    "part-written": Point("commit", r"/features/[^/]+/parts/00001\.arrow$", is_before=True),
    "part-committed": Point("commit", r"/features/[^/]+/parts/00001\.arrow$"),
    "pass-unsigned": Point("commit", r"/features/[^/]+/manifest\.json$", is_before=True),
    "pass-signed": Point("commit", r"/features/[^/]+/manifest\.json$"),
    "column-tar": Point("commit", r"/columns/[^/]+/shards/train-000000\.internvideo2\.tar$"),
    "column-unsigned": Point("commit", r"/columns/[^/]+/manifest\.json$", is_before=True),
    "shard-written": Point("commit", r"/shards/[^/]+/shards/train-000001\.tar$", is_before=True),
    "shard-committed": Point("commit", r"/shards/[^/]+/shards/train-000001\.tar$"),
    "tar-index-written": Point("commit", r"/shards/[^/]+/shards/train-000001\.tar\.idx$", is_before=True),
    "index-written": Point("commit", r"/shards/[^/]+/index\.parquet$", is_before=True),
    "shards-ledger": Point("commit", r"/shards/[^/]+/ledger\.json$"),
    "shards-unsigned": Point("commit", r"/shards/[^/]+/manifest\.json$", is_before=True),
    "shards-signed": Point("commit", r"/shards/[^/]+/manifest\.json$"),
    "mixture-unsigned": Point("commit", r"/mixture/[^/]+/manifest\.json$", is_before=True),
    "report-unsigned": Point("commit", r"/report/[^/]+/manifest\.json$", is_before=True),
    "output-filled": Point("rename", r"/out$", is_before=True, only="local"),
    "output-away": Point("rename", r"/out$", only="local"),
    "output-in": Point("rename", r"/\.attempt-[^/]+-out$", only="local"),
    "note-clearing": Point("commit", r"/out/\.publishing\.json$", only="store"),
    "ledger-gone": Point("remove", r"/out/ledger\.json$", only="store"),
    "objects-going": Point("remove", r"/out/shards/train-000001\.tar$", only="store"),
    "note-cleared": Point("commit", r"/out/\.publishing\.json$", nth=2, only="store"),
    "object-unsent": Point("commit", r"/out/shards/train-000001\.tar$", is_before=True, only="store"),
    "object-sent": Point("commit", r"/out/shards/train-000001\.tar$", only="store"),
    "ledger-unsent": Point("commit", r"/out/ledger\.json$", is_before=True, only="store"),
    "ledger-sent": Point("commit", r"/out/ledger\.json$", only="store"),
    "note-gone": Point("remove", r"/out/\.publishing\.json$", only="store"),
    "rejections-told": Point("commit", r"/quarantine/[^/]+\.jsonl$"),
}


@dataclass(frozen=True)
class Step:
    """Any step of storage: the nth one of a run."""

    nth: int
    is_before: bool

    def meets(self, step: str, name: str) -> bool:
        """Every step is one."""
        return True


class Trap:
    """Kills this process where the point that it is set to is met; does nothing until it is set."""

    def __init__(self) -> None:
        self._point: Point | Step | None = None
        self._left = 0

    def set(self, point: Point | Step) -> None:
        """From now on."""
        self._point, self._left = point, point.nth

    def wrapped(self, step: str, function: Callable[..., Any], named: int) -> Callable[..., Any]:
        """`function`, whose argument number `named` is the file that the step is about."""

        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            meets = self._point is not None and self._point.meets(step, str(arguments[named]))
            self._left -= bool(meets)
            dies = meets and self._left == 0
            if dies and self._point.is_before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **options)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


def lay_trap() -> Trap:
    """Wraps the steps of storage, in this process: call it before anything else imports them."""
    from pipeline.storage import files
    from pipeline.storage.places import S3Path

    trap = Trap()
    files.commit = trap.wrapped("commit", files.commit, 1)
    files.copy = trap.wrapped("commit", files.copy, 1)
    S3Path.unlink = trap.wrapped("remove", S3Path.unlink, 0)
    Path.rename = trap.wrapped("rename", Path.rename, 0)
    return trap
