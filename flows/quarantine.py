"""Rejections on disk: inside the mixture as its account, and in the workspace for `mixture quarantine`."""

from collections.abc import Iterable, Mapping, Set
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, TypeAdapter

from pipeline.plan.choose import Candidates, Rows
from pipeline.storage.files import write_text
from pipeline.storage.places import Place, place
from schemas.base import Record, canonical_json
from schemas.plan import Stratum
from schemas.recipe import Recipe
from schemas.rejection import Rejection

Kind = TypeVar("Kind", bound=Rejection)


class Replaced(Record):
    """What became of the place that a rejected candidate would have had in the mixture."""

    stratum: str
    by: str = ""
    """Key of the reserve that has it; empty where the candidate was a reserve itself."""


class Quarantined(Rejection):
    """A rejection of the last build, and what the build knew of it beside."""

    replaced: Replaced | None = None
    """None for one that never was a candidate, and where the build did not end."""
    tries: int = Field(default=1, ge=1)
    """How often it was tried and failed: once more for each time it was requeued."""


def write_rejections(path: Place, rejections: Iterable[Rejection]) -> None:
    """One canonical JSON line a rejection, sorted by key."""
    write_text(path, "".join(r.canonical() + "\n" for r in sorted(rejections, key=lambda r: r.key)))


def quarantine_path(recipe: Recipe) -> Place:
    """Where the last build of this recipe left its rejections, finished or not."""
    return place(recipe.workspace) / "quarantine" / f"{recipe.mixture_sha256()}.jsonl"


def write_quarantine(
    recipe: Recipe, rejections: Iterable[Rejection], replaced: Mapping[str, Replaced] | None = None
) -> None:
    """Replaces the list of the last build; of what that knew and this one does not know, the places stay."""
    before = {each.key: each for each in read_quarantine(recipe) or []}
    requeued = read_requeued(recipe)
    rows, own = [], set(Rejection.model_fields)
    for refused in rejections:
        told = (replaced or {}).get(refused.key)
        old = before.get(refused.key)
        if told is None and old and (old.stage, old.reason) == (refused.stage, refused.reason):
            told = old.replaced
        rows.append(
            Quarantined(**refused.model_dump(include=own), replaced=told, tries=1 + requeued.get(refused.key, 0))
        )
    path = quarantine_path(recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rejections(path, rows)


def read_quarantine(recipe: Recipe) -> list[Quarantined] | None:
    """What `write_quarantine` wrote; None before the first build."""
    path = quarantine_path(recipe)
    return _read(path, Quarantined) if path.exists() else None


def read_rejections(path: Place) -> list[Rejection]:
    """What `write_rejections` wrote."""
    return _read(path, Rejection)


def read_requeued(recipe: Recipe) -> dict[str, int]:
    """How often each key was requeued."""
    path = _requeued_path(recipe)
    text = path.read_text(encoding="utf-8") if path.exists() else "{}"
    return TypeAdapter(dict[str, int]).validate_json(text)


def write_requeued(recipe: Recipe, keys: Iterable[str]) -> None:
    """Counts these once more."""
    counts = read_requeued(recipe)
    counts |= {key: counts.get(key, 0) + 1 for key in keys}
    write_text(_requeued_path(recipe), canonical_json(counts) + "\n")


def replacements(candidates: Candidates, chosen: Mapping[Stratum, Rows], failed: Set[str]) -> dict[str, Replaced]:
    """What became of the places of candidates that failed, by key.

    The best ones of a stratum would have been chosen; the reserves that came in took their places in order.
    """
    found: dict[str, Replaced] = {}
    lost = np.asarray(pc.is_in(candidates.keys, pa.array(failed, pa.large_string())))
    for stratum, rows in chosen.items():
        ranked = candidates.of(stratum)
        first = ranked[: len(rows)]
        came = candidates.keys_at(rows[~np.isin(rows, first)])
        reserves = iter(came)
        for key in candidates.keys_at(ranked[lost[ranked]]):
            found[key] = Replaced(stratum=stratum.label)
        for key in candidates.keys_at(first[lost[first]]):
            found[key] = Replaced(stratum=stratum.label, by=next(reserves, ""))
    return found


def _requeued_path(recipe: Recipe) -> Place:
    return quarantine_path(recipe).with_suffix(".requeued.json")


def _read(path: Place, kind: type[Kind]) -> list[Kind]:
    # Not by `splitlines`: strangers' names may hold U+2028, which it cuts at.
    return [kind.model_validate_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
