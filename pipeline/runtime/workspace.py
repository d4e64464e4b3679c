"""The workspace: `<root>/<stage>/<fingerprint>/`, manifest last. Resume, caching and provenance are this.

A fingerprint is the digest of a stage's name, version, config and input fingerprints. Work whose
manifest lies there is done; anything else is work to do, or to take up where a killed run left it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.storage.files import ATTEMPT_PREFIX, attempt_path, commit, write_text
from schemas.base import canonical_json, digest
from schemas.manifest import Manifest, Part

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artefact:
    """A finished piece of work."""

    folder: Path
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

    root: Path

    def folder(self, work: Work) -> Path:
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

    def artefacts(self, stage: str) -> Iterator[Artefact]:
        """The whole ones of a stage, by name; those set aside too."""
        for folder in sorted((self.root / stage).glob("*")):
            if not folder.name.startswith(ATTEMPT_PREFIX) and (artefact := load(folder)):
                yield artefact

    def set_aside(self, artefact: Artefact) -> None:
        """Gives it another name than its fingerprint: its work is done again, but its files stay, for a base."""
        names = (f"{artefact.fingerprint}-{number}" for number in count(1))
        artefact.folder.rename(
            next(path for name in names if not (path := artefact.folder.with_name(name)).exists())
        )

    def once(self, work: Work, build: Callable[[Path], Mapping[str, int]]) -> Artefact:
        """A whole-dataset step: `build(folder)` fills a folder of this attempt, which then appears as a whole.

        `build` returns counts for the manifest. Nothing of a killed attempt is ever seen or reused.
        """
        if found := self.find(work):
            return found
        folder = self.folder(work)
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


def load(folder: Path) -> Artefact | None:
    """The artefact in `folder`, or None while its manifest is missing."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return Artefact(folder, Manifest.model_validate_json(text))
