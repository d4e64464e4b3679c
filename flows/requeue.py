"""`mixture quarantine requeue`: forgets what was refused, so that the next build tries just that again.

A key that is requeued counts as never seen: its rows leave every pass. So do those of the other samples of its
media where the bytes of these are no longer what ingest saw. Mixtures that were made without it are not whole any
more. They go first and ingest last: a kill on the way leaves work that is done again, never a row that speaks of
another input; and the list that it was chosen from is changed at the very end, so the same command goes on.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from flows.quarantine import (
    Quarantined,
    read_quarantine,
    read_rejections,
    write_quarantine,
    write_requeued,
)
from flows.specimen import Specimens
from pipeline.runtime.carried import forget, part_files
from pipeline.runtime.rows import read_rows
from pipeline.runtime.workspace import Artefact, Workspace
from pipeline.shards.index import read_index
from pipeline.storage.places import Place, place
from schemas.base import InputError
from schemas.ledger import Ledger
from schemas.recipe import Recipe
from schemas.rejection import REJECTIONS, Reason
from schemas.sample import Sample

PASSES = ("features", "conversations", "ingest")
"""Those of a build, the last one first."""

STAGES = ("ingest", "conversations", "decode", "features")
"""Those that refuse."""


@dataclass(frozen=True)
class Selection:
    """Which rejections are meant: those that fit in each respect; all, where nothing is said."""

    keys: Sequence[str] = ()
    reasons: Sequence[str] = ()
    stages: Sequence[str] = ()
    sources: Sequence[str] = ()

    def of(self, found: Sequence[Quarantined], recipe: Recipe) -> list[Quarantined]:
        """Raises InputError, which names them, for keys, reasons, stages and sources that are none."""
        _check("key", self.keys, [each.key for each in found], "see `mixture quarantine list`")
        _check("reason", self.reasons, list(Reason), f"take one of {', '.join(Reason)}")
        _check("stage", self.stages, STAGES, f"take one of {', '.join(STAGES)}")
        names = [source.name for source in recipe.sources]
        _check("source", self.sources, names, f"take one of {', '.join(names)}")
        return [
            each
            for each in found
            if each.key in (self.keys or (each.key,))
            and each.reason in (self.reasons or (each.reason,))
            and each.stage in (self.stages or (each.stage,))
            and each.source in (self.sources or (each.source,))
        ]


@dataclass
class Requeued:
    """What a requeue did."""

    keys: list[str]
    """Of the rejections that are forgotten."""
    shared: list[str] = field(default_factory=list)
    """Other samples whose media changed with theirs."""
    rows: int = 0
    """Outcomes taken out of passes."""
    mixtures: int = 0
    """Finished mixtures that count as finished no more."""


def requeue(recipe: Recipe, selected: Sequence[Quarantined]) -> Requeued:
    """Forgets these, in all passes of the workspace. No build may be at work there."""
    workspace = Workspace(place(recipe.workspace))
    done = Requeued([each.key for each in selected])
    done.shared = _sharing(workspace, _changed_media(recipe, selected), set(done.keys))
    forgotten = {*done.keys, *done.shared}
    done.mixtures = _unfinish(workspace, set(done.keys), set(done.shared))
    for stage in PASSES:
        done.rows += sum(forget(folder, forgotten) for folder in _passes(workspace, stage))
    left = [each for each in read_quarantine(recipe) or [] if each.key not in forgotten]
    write_requeued(recipe, done.keys)
    write_quarantine(recipe, left)
    return done


def _check(what: str, asked: Sequence[str], known: Sequence[str], mend: str) -> None:
    if unknown := [each for each in asked if each not in set(known)]:
        raise InputError(f"no such {what} in quarantine: {', '.join(unknown)}; {mend}")


def _passes(workspace: Workspace, stage: str) -> Iterator[Place]:
    yield from (path for path in workspace.folders(stage) if (path / "parts").is_dir())


def _changed_media(recipe: Recipe, selected: Sequence[Quarantined]) -> set[tuple[str, str]]:
    """Source and path of their media whose bytes are not those that ingest saw."""
    specimens = Specimens(recipe)
    return {
        (each.source, medium.path)
        for each in selected
        if each.stage != "ingest"
        for medium in specimens.media(each)
        if medium.state != "same"
    }


def _sharing(workspace: Workspace, media: Set[tuple[str, str]], keys: Set[str]) -> list[str]:
    """Other samples of these media."""
    if not media:
        return []
    files = (path for folder in _passes(workspace, "ingest") for path in part_files(folder))
    samples = (sample for path in files for sample in read_rows(path, Sample))
    found = {s.key for s in samples if any((s.source, medium.path) in media for medium in s.media)}
    return sorted(found - keys)


def _unfinish(workspace: Workspace, refused: Set[str], changed: Set[str]) -> int:
    """Takes from sight the mixtures that lack one of `refused` or hold one of `changed`, and what was made of them.

    Shards and columns stay under other names: `--amend` takes samples from them.
    """
    shards = [each for each in workspace.artefacts("shards") if each.is_current and _rests(each, refused, changed)]
    columns = _made_of(workspace, "columns", shards)
    mixtures = _made_of(workspace, "mixture", [*shards, *columns])
    for artefact in [*_made_of(workspace, "report", [*shards, *mixtures]), *mixtures]:
        workspace.drop(artefact)
    for artefact in [*columns, *shards]:
        workspace.set_aside(artefact)
    return len(shards)


def _rests(shards: Artefact, refused: Set[str], changed: Set[str]) -> bool:
    if any(each.key in refused for each in read_rejections(shards.folder / REJECTIONS)):
        return True
    keys = pa.array(changed, pa.string())
    splits = Ledger.read(shards.folder).total if changed else ()
    indexes = (read_index(shards.folder, split, ["key"])["key"] for split in splits)
    return any(pc.any(pc.is_in(held, keys)).as_py() for held in indexes)


def _made_of(workspace: Workspace, stage: str, made_of: Sequence[Artefact]) -> list[Artefact]:
    fingerprints = {each.fingerprint for each in made_of}
    return [
        each for each in workspace.artefacts(stage) if each.is_current and fingerprints & {*each.manifest.inputs}
    ]
