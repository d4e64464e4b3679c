"""Reads a recipe, a file or a packaged one, and explains every mistake in it."""

from pydantic import ValidationError

from flows.yaml_file import FileError, Mistake, load, parse
from flows.yaml_file import packaged as packaged_in
from schemas.recipe import Recipe

RecipeError = FileError
"""A recipe that cannot be used, with all its mistakes."""

FOLDER, KIND = "recipes", "recipe"


def packaged() -> dict[str, str]:
    """Names and texts of the recipes that come with the package."""
    return packaged_in(FOLDER)


def load_recipe(name: str) -> Recipe:
    """The recipe in the file `name`, or the packaged one of that name. Raises RecipeError."""
    return load(name, Recipe, FOLDER, KIND)


def parse_recipe(text: str, file: str) -> Recipe:
    """The recipe written in `text`; `file` is its name in messages. Raises RecipeError."""
    return parse(text, file, Recipe, KIND)


def settle(
    recipe: Recipe,
    *,
    output: str | None,
    workspace: str | None,
    workers: int | None,
    runner: str | None,
    shares: str | None = None,
) -> Recipe:
    """The recipe with what a run was given instead of its own. Raises RecipeError for a value it cannot hold."""
    data = recipe.model_dump()
    places = {"output": output, "workspace": workspace}
    data |= {name: value for name, value in places.items() if value is not None}
    if shares is not None:
        # Only here: most commands need no table of shares.
        from flows.shares_file import find_shares

        data["mixture"]["shares"] = find_shares(shares)
    runtime = {"workers": workers, "runner": runner}
    data["runtime"] |= {name: value for name, value in runtime.items() if value is not None}
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        mistakes = [Mistake(0, f"--{e['loc'][-1]}", f"{e['msg']}, got {e['input']!r}") for e in error.errors()]
        raise RecipeError("parameters", mistakes) from None
