"""The stages of a recipe, as a build runs them on everybody, and `mixture quarantine try` on one sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flows.account import LIMITS
from pipeline.conversations.model import Service
from pipeline.conversations.stage import Converse
from pipeline.decode.stage import Decode
from pipeline.features.origins import Stamp
from pipeline.features.stage import Encode
from pipeline.ingest.fetch import Fetch
from pipeline.ingest.probe import Probe
from pipeline.ingest.registry import build_source
from pipeline.ingest.source import Entry, Source
from pipeline.runtime.contract import Stage
from pipeline.runtime.passes import Pass
from pipeline.runtime.workspace import Workspace
from pipeline.storage.places import Place, place
from schemas.base import digest
from schemas.media import DecodeSpec
from schemas.recipe import Recipe
from schemas.sources import SourceSpec

PROBER = "pipeline.decode.worker:probe_medium"
"""Ingest looks at media through decode's eyes, in a process of its own; the flow makes the match."""

INGEST_PART = 64
"""Inputs a part: the unit of commit and resume. Fixed, because a part must mean the same in every run."""

Chain = tuple[Stage[Any, Any], ...]


@dataclass(frozen=True)
class Opened:
    """A source of a recipe, and where its media lie."""

    spec: SourceSpec
    workspace: Workspace

    @cached_property
    def source(self) -> Source:
        """What reads it."""
        return build_source(self.spec)

    @cached_property
    def fingerprint(self) -> str:
        """Of the entries and their media, as they are when it is first asked for."""
        return self.source.fingerprint()

    @cached_property
    def folder(self) -> Place:
        """Where the source may write media of its own."""
        told = {"source": self.spec.model_dump(mode="json"), "fingerprint": self.fingerprint}
        return self.workspace.root / "media" / digest(told)

    @cached_property
    def root(self) -> str:
        """The folder that its media paths are relative to."""
        return str(self.source.media_root(self.folder))

    def stages(self, decode: DecodeSpec, folder: Place | None = None) -> Chain:
        """From an entry to a sample; media that the source makes go to `folder`, if that is another."""
        return Fetch(self.source, folder or self.folder), Probe(PROBER, decode, {self.spec.name: self.root})

    def ingest(self, decode: DecodeSpec) -> Pass:
        """The pass over all its entries."""
        told, limits = self.fingerprint, decode.model_dump(mode="json", include=LIMITS)

        def identity(entry: Entry) -> str:
            return digest([entry.payload, entry.stamp or told])

        config = {"source": self.spec.model_dump(mode="json"), "limits": limits}
        entries = list(self.source.entries())
        return Pass("ingest", self.stages(decode), config, entries, (digest(told),), INGEST_PART, identity)


def talking(recipe: Recipe) -> Chain:
    """From a sample to its conversation."""
    return (Converse(recipe.conversations, recipe.seed, service_of(recipe)),)


def request_cache(workspace: Place) -> Place:
    """Folder of the replies of chat models: all recipes of a workspace share it, as it goes by content."""
    return workspace / "requests"


def service_of(recipe: Recipe) -> Service | None:
    """What serves the chat model; None where there is none."""
    if recipe.engine is None:
        return None
    runtime = recipe.runtime
    workers = 1 if runtime.runner == "local" else runtime.workers
    requests = str(request_cache(place(recipe.workspace)))
    return Service(engine=recipe.engine, allowance=runtime.allowance, requests=requests, workers=workers)


def encoding(
    recipe: Recipe,
    names: Sequence[str],
    roots: Mapping[str, str],
    stamps: Mapping[str, Stamp],
    check_digests: bool = False,
) -> Chain:
    """From a sample to its frames, and from these to the features of the encoders named."""
    encoders = {name: recipe.encoders[name] for name in names}
    preprocessing = {name: spec.preprocessing for name, spec in encoders.items()}
    own = {name: stamps[name] for name in names}
    return (
        Decode(recipe.decode, preprocessing, roots, recipe.shards, check_digests),
        Encode(encoders, recipe.decode.frames_per_clip, recipe.runtime.clips_at_once, own),
    )
