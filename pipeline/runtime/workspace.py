"""The workspace: `<root>/<stage>/<fingerprint>/`, manifest last. Resume, caching and provenance are this.

A fingerprint is the digest of a stage's name, version, config and input fingerprints. Work whose
manifest lies there is done; anything else is work to do, or to take up where a killed run left it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.storage.files import (
    ATTEMPT_PREFIX,
    attempt_path,
    commit,
    copy,
    remove_tree,
    scratch_path,
    write_text,
)
from pipeline.storage.places import Place, S3Path
from schemas.base import canonical_json, digest
from schemas.manifest import Manifest, Part

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artefact:
    """A finished piece of work."""

    folder: Place
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """Names the work by what went into it."""
        return self.manifest.fingerprint

    @property
    def is_current(self) -> bool:
        """Whether the work is found under its fingerprint; not if it was set aside."""
        return self.folder.name == self.fingerprint


@dataclass(frozen=True)
class Work:
    """A piece of work by its inputs: known before it is done."""

    stage: str
    version: int
    config: Any
    """JSON-like; whatever changes the result must be in it, whatever does not must not."""
    inputs: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256."""
        return digest([self.stage, self.version, self.config, list(self.inputs)])

    def manifest(self, parts: Sequence[Part] = (), summary: Mapping[str, int] | None = None) -> Manifest:
        """The manifest of this work, done."""
        return Manifest(
            stage=self.stage,
            version=self.version,
            fingerprint=self.fingerprint,
            config=canonical_json(self.config),
            inputs=self.inputs,
            parts=tuple(parts),
            summary=dict(summary or {}),
        )


@dataclass(frozen=True)
class Workspace:
    """A folder of artefacts."""

    root: Place

    def folder(self, work: Work) -> Place:
        """Where the artefact of `work` lies, or will."""
        return self.root / work.stage / work.fingerprint

    def find(self, work: Work) -> Artefact | None:
        """The artefact, if it is whole."""
        return load(self.folder(work))

    def finish(self, work: Work, parts: Sequence[Part]) -> Artefact:
        """Writes the manifest of work whose files are all in place."""
        manifest = work.manifest(parts)
        write_text(self.folder(work) / MANIFEST, manifest.model_dump_json(indent=1))
        return Artefact(self.folder(work), manifest)

    def folders(self, stage: str) -> list[Place]:
        """Of a stage, by name: whole, begun and set aside."""
        found: list[Place] = [*(self.root / stage).glob("*")]
        return sorted(found, key=str)

    def artefacts(self, stage: str) -> Iterator[Artefact]:
        """The whole ones of a stage, by name; those set aside too."""
        for folder in self.folders(stage):
            if not folder.name.startswith(ATTEMPT_PREFIX) and (artefact := load(folder)):
                yield artefact

    def set_aside(self, artefact: Artefact) -> None:
        """Gives it another name than its fingerprint: its work is done again, but its files stay, for a base."""
        folder = artefact.folder
        names = (f"{artefact.fingerprint}-{number}" for number in count(1))
        free = next(name for name in names if not (folder.parent / name).exists())
        if isinstance(folder, Path):
            folder.rename(folder.with_name(free))
            return
        there = [path.relative_to(folder) for path, _ in folder.objects()]
        for name in sorted(there, key=lambda path: path.name == MANIFEST):  # the manifest last, as ever
            copy(folder / name, folder.with_name(free) / name)
        self.drop(artefact)

    def drop(self, artefact: Artefact) -> None:
        """Removes it: a kill on the way leaves nothing that would be taken for whole."""
        folder = artefact.folder
        if isinstance(folder, Path):
            gone = scratch_path(folder)
            folder.rename(gone)
            folder = gone
        else:
            (folder / MANIFEST).unlink(missing_ok=True)
        remove_tree(folder)

    def once(self, work: Work, build: Callable[[Place], Mapping[str, int]]) -> Artefact:
        """A whole-dataset step: `build(folder)` fills a folder of this attempt, which then appears as a whole.

        `build` returns counts for the manifest. Nothing of a killed attempt is ever seen or reused.
        """
        if found := self.find(work):
            return found
        folder = self.folder(work)
        if isinstance(folder, S3Path):
            return self._once_in_store(work, folder, build)
        folder.parent.mkdir(parents=True, exist_ok=True)
        attempt = attempt_path(folder)
        attempt.mkdir()
        manifest = work.manifest(summary=build(attempt))
        write_text(attempt / MANIFEST, manifest.model_dump_json(indent=1))
        try:
            commit(attempt, folder)
        except OSError:
            # Another run of the same recipe finished first; its bytes are the same by construction.
            if found := self.find(work):
                return found
            raise
        return Artefact(folder, manifest)

    def _once_in_store(self, work: Work, folder: S3Path, build: Callable[[Place], Mapping[str, int]]) -> Artefact:
        """Objects cannot be renamed together: they are put where they belong, and the manifest, last, shows them.

        Another run that does the same puts the same bytes; what a killed one left is overwritten, or named nowhere.
        """
        manifest = work.manifest(summary=build(folder))
        write_text(folder / MANIFEST, manifest.model_dump_json(indent=1))
        return Artefact(folder, manifest)


def load(folder: Place) -> Artefact | None:
    """The artefact in `folder`, or None while its manifest is missing."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return Artefact(folder, Manifest.model_validate_json(text))
