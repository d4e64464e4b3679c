"""Whether what a recipe names lies where it says: told at once, before the first hour of work."""

import os

from pipeline.conversations.engine import need_vllm
from pipeline.storage.places import place
from schemas.base import InputError
from schemas.recipe import Recipe
from schemas.sources import LlavaSource

FILL_IN = "FILL-IN"
"""Stands in a packaged recipe for what only the owner of the data can tell."""


def absent_data(recipe: Recipe) -> list[str]:
    """Annotation files that are not there, each with its source. Media are looked at one by one, by ingest."""
    files = [(source.name, source.annotations) for source in recipe.sources if isinstance(source, LlavaSource)]
    return [f"source {name}: no annotation file {file!r}" for name, file in files if not place(file).is_file()]


def need_data(recipe: Recipe) -> None:
    """Raises InputError that names every file of a source that is not there."""
    if absent := absent_data(recipe):
        raise InputError("\n".join([*absent, "put the data there, or mend `annotations` of the source"]))


def need_terms(recipe: Recipe) -> None:
    """Raises InputError for a source whose licence or annotator nobody filled in: a mixture would tell it on."""
    bare = [s.name for s in recipe.sources if isinstance(s, LlavaSource) and FILL_IN in (s.licence, s.annotator)]
    if bare:
        raise InputError(
            f"{FILL_IN} is no licence and no annotator, in source {', '.join(bare)}: copy the recipe "
            "(mixture init --like) and give those of your data"
        )


def need_engine(recipe: Recipe) -> None:
    """Raises InputError where the chat model's engine cannot run here; of a cluster its workers tell."""
    elsewhere = recipe.runtime.runner == "ray" and "RAY_ADDRESS" in os.environ
    if recipe.engine and recipe.engine.kind == "vllm" and not elsewhere:
        need_vllm()
