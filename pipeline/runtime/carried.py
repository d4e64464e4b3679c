"""Rows that a pass need not make again: another pass of the same stages had the same input.

    <workspace>/<stage>/<fingerprint>/pass.json                   what the pass is, from its start on
    <workspace>/<stage>/<fingerprint>/parts/00000.inputs.jsonl    what the inputs of a part were

A fingerprint speaks of all inputs together, so one candidate more, or one film put right, makes another pass. Its
rows are copied, never shared: a part that took rows over has the bytes of one that made them.
"""

import json
from collections.abc import Callable, Container, Iterator, Sequence
from functools import lru_cache
from typing import Any

from pipeline.runtime.contract import Keyed
from pipeline.runtime.located import Located, PartRow
from pipeline.runtime.rows import changed, read_row, read_types, write_rows
from pipeline.runtime.workspace import MANIFEST, Work, Workspace
from pipeline.storage.files import ATTEMPT_PREFIX, attempt_path, commit, write_text
from pipeline.storage.places import Place
from schemas.base import canonical_json
from schemas.manifest import Manifest
from schemas.rejection import Rejection

DESCRIPTION = "pass.json"

Identity = Callable[[Any], str]
"""Digest of all that a stage can see of an input, the bytes of its media included."""


class Carried:
    """The rows of other passes that answer for inputs of a pass."""

    def __init__(self, workspace: Workspace, work: Work, identity: Identity) -> None:
        self._identity = identity
        self._passes = [_located(folder) for folder in _relatives(workspace, work)]
        self._inputs = lru_cache(64)(_read_inputs)

    def holds(self, key: str) -> bool:
        """Whether any of them answered for this key, whatever its input was."""
        return any(key in located for located in self._passes)

    def find(self, record: Keyed) -> PartRow | None:
        """The row that answers for this very input."""
        for located in self._passes:
            if record.key in located and self._is_of(place := located[record.key], record):
                return place
        return None

    def _is_of(self, place: PartRow, record: Keyed) -> bool:
        told = self._inputs(place.path).get(record.key)
        if told is None or told[0] != self._identity(record):
            return False
        # A sample does not say at which line its annotation stood; a rejection may.
        return told[1] == _where(record) or read_types(place.path)[place.row][1] != Rejection.__name__


def write_inputs(part: Place, inputs: Sequence[Keyed], identity: Identity) -> None:
    """Notes beside a part what its inputs are: before the part is there, so that none is without."""
    lines = [canonical_json([record.key, identity(record), _where(record)]) + "\n" for record in inputs]
    write_text(_inputs_path(part), "".join(lines))


def write_pass(folder: Place, work: Work) -> None:
    """Notes what the pass in `folder` is, before it is whole, and for when it is not whole any more."""
    write_text(folder / DESCRIPTION, work.manifest().model_dump_json(indent=1))


def part_files(folder: Place) -> list[Place]:
    """Of a pass, whole or not, in order."""
    return sorted(p for p in (folder / "parts").glob("*.arrow") if not p.name.startswith(ATTEMPT_PREFIX))


def forget(folder: Place, keys: Container[str]) -> int:
    """Takes the rows of these keys out of a pass, so that the same pass does them again; all others stay.

    Returns how many there were. After a kill on the way the pass is not whole, and lacks some of them.
    """
    forgotten = 0
    for path in part_files(folder):
        rows = read_types(path)
        left = [row for row, (key, _) in enumerate(rows) if key not in keys]
        if len(left) == len(rows):
            continue
        (folder / MANIFEST).unlink(missing_ok=True)  # before the part: nobody takes what lacks rows for whole
        attempt = attempt_path(path)
        write_rows(attempt, [read_row(path, row) for row in left])
        commit(attempt, path)
        changed(path)
        forgotten += len(rows) - len(left)
    return forgotten


def _located(folder: Place) -> Located:
    located = Located()
    located.add_parts(part_files(folder))
    return located


def _relatives(workspace: Workspace, work: Work) -> list[Place]:
    """Folders of the passes of the same stages and config over other inputs."""
    wanted = (work.version, _of_stages(work.config))
    found = []
    paths: list[Place] = [*(workspace.root / work.stage).glob(f"*/{DESCRIPTION}")]
    for path in sorted(paths, key=str):
        told = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        is_other = told.fingerprint != work.fingerprint
        if is_other and (told.version, _of_stages(json.loads(told.config))) == wanted:
            found.append(path.parent)
    return found


def _of_stages(config: dict[str, Any]) -> str:
    """What of a pass's config says how an input is answered, and not which inputs there are."""
    return canonical_json({name: config[name] for name in ("stages", "config")})


def _inputs_path(part: Place) -> Place:
    return part.with_suffix(".inputs.jsonl")


def _read_inputs(part: Place) -> dict[str, tuple[str, str]]:
    """Identity and place by key; none for a part whose inputs nobody noted."""
    path = _inputs_path(part)
    lines: Iterator[str] = iter(path.read_text(encoding="utf-8").split("\n") if path.exists() else ())
    return {key: (identity, where) for key, identity, where in (json.loads(line) for line in lines if line)}


def _where(record: Keyed) -> str:
    return str(getattr(record, "where", ""))
