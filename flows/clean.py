"""Removes what killed runs left in a workspace, and beside or in an output."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.runtime.workspace import Workspace
from pipeline.shards.columns import COLUMN, WrittenColumn
from pipeline.storage.files import ATTEMPT_PREFIX, Remains, held, remains, remove_tree
from pipeline.storage.places import Place
from schemas.ledger import LEDGER, Ledger


def clean_workspace(root: Place, output: Place, everything: bool = False, columns: bool = False) -> tuple[int, int]:
    """Removes attempts that nobody will finish, also at `output`, or the whole workspace too.

    What a requeue set aside goes once the mixture at `output` is another. `columns` removes the columns, too,
    that the mixture at `output` does not hold; asked for again, they are encoded again. Returns files and
    bytes removed; of a store, uploads that were never finished count as files.

    Whole parts of an unfinished pass stay: the next run takes them up.
    """
    doomed = [held(root)] if everything else remains(root)
    doomed += [] if everything else map(held, _set_aside(Workspace(root), output))
    doomed += [] if everything or not columns else map(held, _unused_columns(root, output))
    doomed += _remains_of(output)
    for each in doomed:
        remove_tree(each.place)
    return sum(each.files for each in doomed), sum(each.size for each in doomed)


def _remains_of(output: Place) -> Iterator[Remains]:
    """Folders that were to be swapped in stand beside an output on a disk; unfinished uploads in one in a store."""
    if isinstance(output, Path):
        yield from map(held, sorted(output.parent.glob(f"{ATTEMPT_PREFIX}*-{output.name}")))
    else:
        yield from remains(output)


def _set_aside(workspace: Workspace, output: Place) -> list[Place]:
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


def _unused_columns(root: Place, output: Place) -> list[Place]:
    """Columns that the mixture at `output` does not hold, and mixtures (links to their tars) that are not it."""
    ledger = Ledger.read(output)
    kept = set(ledger.columns)
    columns = [path.parent for path in (root / "columns").glob(f"*/{COLUMN}")]
    mixtures = [path.parent for path in (root / "mixture").glob(f"*/{LEDGER}")]
    unused: list[Place] = [folder for folder in columns if WrittenColumn.read(folder).column not in kept]
    return unused + [folder for folder in mixtures if Ledger.read(folder).root_sha256 != ledger.root_sha256]
