"""Removes what killed runs left in a workspace."""

import shutil
from pathlib import Path

from pipeline.runtime.workspace import Workspace
from pipeline.shards.columns import COLUMN, WrittenColumn
from pipeline.storage.files import ATTEMPT_PREFIX
from schemas.ledger import LEDGER, Ledger


def clean_workspace(root: Path, output: Path, everything: bool = False, columns: bool = False) -> tuple[int, int]:
    """Removes attempts that nobody will finish, also at `output`, or the whole workspace too.

    What a requeue set aside goes once the mixture at `output` is another. `columns` removes the columns, too, that
    the mixture at `output` does not hold; asked for again, they are encoded again. Returns files and bytes removed.

    Whole parts of an unfinished pass stay: the next run takes them up.
    """
    doomed = [root] if everything else list(root.rglob(f"{ATTEMPT_PREFIX}*"))
    doomed += _unused_columns(root, output) if columns and not everything else []
    doomed += _set_aside(Workspace(root), output) if not everything else []
    doomed += output.parent.glob(f"{ATTEMPT_PREFIX}*-{output.name}")
    files = {p for path in doomed if path.exists() for p in (path.rglob("*") if path.is_dir() else [path])}
    sizes = [path.stat().st_size for path in files if path.is_file()]
    for path in doomed:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(sizes), sum(sizes)


def _set_aside(workspace: Workspace, output: Path) -> list[Path]:
    """Shards and columns set aside by a requeue that the mixture at `output` does not come from.

    Without a mixture there nobody knows what they will be wanted for, so they stay.
    """
    if not (output / LEDGER).is_file():
        return []
    ledger = Ledger.read(output)
    tars, columns = [entry.sha256 for entry in ledger.shards], set(ledger.columns)
    aside = {stage: [a for a in workspace.artefacts(stage) if not a.is_current] for stage in ("shards", "columns")}
    old = [a for a in aside["shards"] if [e.sha256 for e in Ledger.read(a.folder).shards] != tars]
    old += [a for a in aside["columns"] if WrittenColumn.read(a.folder).column not in columns]
    return [artefact.folder for artefact in old]


def _unused_columns(root: Path, output: Path) -> list[Path]:
    """Columns that the mixture at `output` does not hold, and mixtures (links to their tars) that are not it."""
    ledger = Ledger.read(output)
    held = set(ledger.columns)
    columns = [path.parent for path in (root / "columns").glob(f"*/{COLUMN}")]
    mixtures = [path.parent for path in (root / "mixture").glob(f"*/{LEDGER}")]
    unused = [folder for folder in columns if WrittenColumn.read(folder).column not in held]
    return unused + [folder for folder in mixtures if Ledger.read(folder).root_sha256 != ledger.root_sha256]
