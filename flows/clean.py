"""Removes what killed runs left in a workspace."""

import shutil
from pathlib import Path

from pipeline.runtime.files import ATTEMPT_PREFIX


def clean_workspace(root: Path, output: Path, everything: bool) -> tuple[int, int]:
    """Removes attempts that nobody will finish, also at `output`, or the whole workspace too.

    Returns files and bytes removed.

    Whole parts of an unfinished pass stay: the next run takes them up.
    """
    doomed = [root] if everything else list(root.rglob(f"{ATTEMPT_PREFIX}*"))
    doomed += output.parent.glob(f"{ATTEMPT_PREFIX}*-{output.name}")
    files = {p for path in doomed if path.exists() for p in (path.rglob("*") if path.is_dir() else [path])}
    sizes = [path.stat().st_size for path in files if path.is_file()]
    for path in doomed:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(sizes), sum(sizes)
