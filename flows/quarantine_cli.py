"""`mixture quarantine`: what was refused, why, what mends it, and how it is tried again."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.command import (
    BAD_INPUT,
    FINDING,
    JsonOption,
    RecipeArgument,
    SharesOption,
    WorkspaceOption,
    explained,
    fail,
    read_recipe,
)

if TYPE_CHECKING:
    from flows.quarantine import Quarantined
    from schemas.recipe import Recipe

quarantine_app = typer.Typer(help="What was rejected, why, and how it is tried again.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Of a rejection, as `list` tells it.")]


@quarantine_app.command("list")
def list_rejections(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    shares: SharesOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what the last build of a recipe rejected, with the reason and where the bytes are."""
    from flows.quarantine_tables import print_rejections

    _, found = _opened(recipe, workspace, shares)
    print_rejections(found, as_json)


@quarantine_app.command()
def show(
    recipe: RecipeArgument,
    key: KeyArgument,
    workspace: WorkspaceOption = None,
    shares: SharesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one rejection: its bytes then and now, its place in the mixture, what mends it, how to see it again."""
    from flows.quarantine_tables import print_shown
    from flows.specimen import Specimens

    found, rejections = _opened(recipe, workspace, shares)
    with explained():
        refused = _one(rejections, key)
        again = _command("quarantine try", [recipe, key], workspace, shares)
        print_shown(refused, Specimens(found), again, as_json)


@quarantine_app.command("try")
def try_one(
    recipe: RecipeArgument,
    key: KeyArgument,
    workspace: WorkspaceOption = None,
    shares: SharesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the stage that rejected a sample on it alone, and write nothing. Exit 1 if it is rejected again."""
    from flows.quarantine_tables import print_trials
    from flows.specimen import Specimens

    found, rejections = _opened(recipe, workspace, shares)
    with explained():
        trials = Specimens(found).tried(_one(rejections, key))
    print_trials(key, trials, _command("quarantine requeue", [recipe, key], workspace, shares), as_json)
    if trials[-1].refused:
        raise typer.Exit(FINDING)


@quarantine_app.command()
def requeue(
    recipe: RecipeArgument,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY", help="None: all.")] = None,
    reason: Annotated[list[str] | None, typer.Option(help="Only those of this reason; may be repeated.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="Only those of this stage; may be repeated.")] = None,
    source: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only those of this source; may be repeated.")
    ] = None,
    workspace: WorkspaceOption = None,
    shares: SharesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget rejections, so that the next build tries just these again; mend the data first. Exit 1 for none."""
    from flows.quarantine_tables import print_requeued
    from flows.requeue import Selection, requeue

    found, rejections = _opened(recipe, workspace, shares)
    with explained():
        selected = Selection(keys or (), reason or (), stage or (), source or ()).of(rejections, found)
        if not selected:
            fail(f"none of the {len(rejections)} rejections is meant: nothing to try again", FINDING)
        done = requeue(found, selected)
    print_requeued(done, len(rejections), _command("build", [recipe], workspace, shares), as_json)


def _command(verb: str, words: Sequence[str], workspace: str | None, shares: str | None) -> str:
    """A whole command line for a shell, with the options that were given here."""
    options = {"--workspace": workspace, "--shares": shares}
    given = [word for name, value in options.items() if value for word in (name, str(value))]
    return shlex.join(["mixture", *verb.split(), *words, *given])


def _opened(name: str, workspace: str | None, shares: str | None) -> tuple["Recipe", list["Quarantined"]]:
    """The recipe, and what its last build rejected."""
    from flows.quarantine import read_quarantine

    recipe = read_recipe(name, workspace=workspace, shares=shares)
    found = read_quarantine(recipe)
    if found is None:
        fail(f"no build of {name} yet in this workspace; run `mixture build {name}`", BAD_INPUT)
    return recipe, found


def _one(found: list["Quarantined"], key: str) -> "Quarantined":
    from schemas.base import InputError

    for refused in found:
        if refused.key == key:
            return refused
    raise InputError(f"{key} is not in quarantine; see `mixture quarantine list`")
