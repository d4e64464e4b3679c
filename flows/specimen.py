"""What was refused, at close range: its entry, its media as ingest saw them and as they are, and a trial of it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Literal, cast

from flows.quarantine import Quarantined
from flows.stages import Chain, Opened, encoding, talking
from pipeline.features.origins import weights_stamp
from pipeline.ingest.source import Entry
from pipeline.runtime.carried import part_files
from pipeline.runtime.contract import Keyed, run_chain
from pipeline.runtime.local import set_up
from pipeline.runtime.located import PartRow
from pipeline.runtime.rows import read_types
from pipeline.runtime.workspace import Workspace
from pipeline.storage.files import sha256_of
from pipeline.storage.places import Place, place
from schemas.base import InputError, Record
from schemas.recipe import Recipe
from schemas.rejection import Rejection
from schemas.sample import Sample
from schemas.sources import LlavaSource


class Bytes(Record):
    """Of a medium."""

    sha256: str
    size_bytes: int


class Medium(Record):
    """A medium of what was refused."""

    kind: str
    path: str
    """Under the root of its source."""
    place: str
    """Where it lies, absolute."""
    then: Bytes | None
    """As ingest saw it; None where that was not to be found out."""
    now: Bytes | None
    """None where there is no such file."""

    @property
    def state(self) -> Literal["gone", "not seen before", "same", "changed"]:
        """What became of it since ingest."""
        if self.now is None:
            return "gone"
        if self.then is None:
            return "not seen before"
        return "same" if self.now == self.then else "changed"


@dataclass(frozen=True)
class Trial:
    """What the stage says now."""

    of: Literal["as ingest saw it", "as it is now"]
    outcome: Keyed

    @property
    def refused(self) -> Rejection | None:
        """Why it was; None where it was accepted."""
        return self.outcome if isinstance(self.outcome, Rejection) else None


class Specimens:
    """The rejections of a recipe's last build, and the sources they come from. Writes nothing anywhere."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._workspace = Workspace(place(recipe.workspace))
        self._opened = {spec.name: Opened(spec, self._workspace) for spec in recipe.sources}

    def media(self, refused: Quarantined) -> list[Medium]:
        """Its media, read whole to be digested; none where its annotation names none that can be used."""
        sample = self.recorded(refused) or self._named(refused)
        opened = self._opened_of(refused)
        found = []
        for medium in sample.media if sample else ():
            where = (place(opened.root) / medium.path).absolute()
            then = Bytes(sha256=medium.sha256, size_bytes=medium.size_bytes) if medium.sha256 else None
            found.append(Medium(kind=medium.kind, path=medium.path, place=str(where), then=then, now=_read(where)))
        return found

    def annotation(self, refused: Quarantined) -> str:
        """File and place of its annotation; empty where its source does not list it any more."""
        entry = self._entry(refused)
        spec = self._opened_of(refused).spec
        folder = f"{place(spec.annotations).absolute().parent}/" if isinstance(spec, LlavaSource) else ""
        return folder + entry.where if entry else ""

    def held_by(self, refused: Quarantined) -> list[str]:
        """The rows that say so: part files, under the workspace, and place in them."""
        return [
            f"{stage}/{row.path.parent.parent.name}/parts/{row.path.name}, row {row.row}"
            for stage in ("ingest", "conversations", "features")
            for row in self._rows(stage, refused.key, Rejection)
        ]

    def recorded(self, refused: Quarantined) -> Sample | None:
        """The sample as ingest gave it to the stage that refused it."""
        places = list(self._rows("ingest", refused.key, Sample))
        # The newest: what older ones say is of media that were other ones.
        newest = max(places, key=lambda place: place.path.stat().st_mtime_ns, default=None)
        return cast("Sample", newest()) if newest else None

    def tried(self, refused: Quarantined) -> list[Trial]:
        """Its stage, on it alone: as ingest saw it, and, if it is another now, as it is now.

        Raises InputError for what its source does not list any more.
        """
        fresh = self._ingested(refused)
        if refused.stage == "ingest":
            return [Trial("as it is now", fresh)]
        recorded = self.recorded(refused)
        trials = [Trial("as ingest saw it", _run(self._stages(refused), recorded))] if recorded else []
        if isinstance(fresh, Rejection):
            return [*trials, Trial("as it is now", fresh)]
        if fresh == recorded:
            return [Trial("as it is now", trials[0].outcome)]
        return [*trials, Trial("as it is now", _run(self._stages(refused), fresh))]

    def _opened_of(self, refused: Quarantined) -> Opened:
        return self._opened[refused.source]

    def _entry(self, refused: Quarantined) -> Entry | None:
        entries: Iterator[Entry] = self._opened_of(refused).source.entries()
        return next((entry for entry in entries if entry.key == refused.key), None)

    def _named(self, refused: Quarantined) -> Sample | None:
        """The sample before anybody looked at its media."""
        entry = self._entry(refused)
        with TemporaryDirectory() as folder:  # a source that makes media makes them here
            made = self._opened_of(refused).source.sample(entry, place(folder)) if entry else None
        return made if isinstance(made, Sample) else None

    def _ingested(self, refused: Quarantined) -> Keyed:
        entry, opened = self._entry(refused), self._opened_of(refused)
        if entry is None:
            raise InputError(f"{refused.key}: source {refused.source} lists no such entry any more; build again")
        with TemporaryDirectory() as folder:
            return _run(opened.stages(self._recipe.decode, place(folder)), entry)

    def _stages(self, refused: Quarantined) -> Chain:
        if refused.stage == "conversations":
            return talking(self._recipe)
        recipe = self._recipe.without_columns()  # a column refuses no sample
        roots: Mapping[str, str] = {refused.source: self._opened_of(refused).root}
        stamps = {name: weights_stamp(spec.weights) for name, spec in recipe.encoders.items()}
        chain = encoding(recipe, list(recipe.encoders), roots, stamps)
        return chain[:1] if refused.stage == "decode" else chain

    def _rows(self, stage: str, key: str, kind: type[Keyed]) -> Iterator[PartRow]:
        for folder in self._workspace.folders(stage):
            for path in part_files(folder):
                if (key, kind.__name__) in (rows := read_types(path)):
                    yield PartRow(path, rows.index((key, kind.__name__)))


def _run(stages: Chain, record: Keyed) -> Keyed:
    with ExitStack() as stack:
        set_up(stages, stack)
        (outcome,) = run_chain(stages, [record])
    return outcome


def _read(path: Place) -> Bytes | None:
    if not path.is_file():
        return None
    sha256, size_bytes = sha256_of(path)
    return Bytes(sha256=sha256, size_bytes=size_bytes)
