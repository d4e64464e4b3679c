"""Rejections on disk: inside the mixture as its account, and in the workspace for `mixture quarantine`."""

from collections.abc import Iterable

from pipeline.storage.files import write_text
from pipeline.storage.places import Place, place
from schemas.recipe import Recipe
from schemas.rejection import Rejection


def write_rejections(path: Place, rejections: Iterable[Rejection]) -> None:
    """One canonical JSON line a rejection, sorted by key."""
    write_text(path, "".join(r.canonical() + "\n" for r in sorted(rejections, key=lambda r: r.key)))


def quarantine_path(recipe: Recipe) -> Place:
    """Where the last build of this recipe left its rejections, finished or not."""
    return place(recipe.workspace) / "quarantine" / f"{recipe.mixture_sha256()}.jsonl"


def write_quarantine(recipe: Recipe, rejections: Iterable[Rejection]) -> None:
    """Replaces the list of the last build."""
    path = quarantine_path(recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rejections(path, rejections)


def read_quarantine(recipe: Recipe) -> list[Rejection] | None:
    """What `write_quarantine` wrote; None before the first build."""
    path = quarantine_path(recipe)
    return read_rejections(path) if path.exists() else None


def read_rejections(path: Place) -> list[Rejection]:
    """What `write_rejections` wrote. Not by `splitlines`: strangers' names may hold U+2028, which it cuts at."""
    return [Rejection.model_validate_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
