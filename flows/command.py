"""What the commands share: their options, exit codes, and how a failure is told.

Imports are light on purpose, as in `flows.cli`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from flows.display import Display
    from pipeline.storage.places import Place
    from schemas.recipe import Recipe

FINDING, BAD_INPUT, INTERRUPTED = 1, 2, 130

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe file, or a packaged one: demo, align, vision, sft, sft-paper, apollo-4m."
    ),
]
FolderArgument = Annotated[str, typer.Argument(metavar="FOLDER", help="A built mixture: a folder, or s3://...")]
WorkersOption = Annotated[int | None, typer.Option(help="Actors a stage, instead of the recipe's.")]
AmendOption = Annotated[
    bool, typer.Option("--amend", help="Change the mixture in the output folder: what stays is not made again.")
]
RunnerOption = Annotated[str | None, typer.Option(help="`local` or `ray`, instead of the recipe's.")]
WorkspaceOption = Annotated[str | None, typer.Option(help="Folder of artefacts, instead of the recipe's.")]
OutputOption = Annotated[str | None, typer.Option(help="Folder of the mixture, instead of the recipe's.")]
SharesOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|T/I/MI/V",
        help="Other shares: percent of text/image/multi-image/video, or a row of Apollo's Table 13.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def read_recipe(
    name: str,
    *,
    workers: int | None = None,
    runner: str | None = None,
    workspace: str | None = None,
    output: str | None = None,
    shares: str | None = None,
) -> "Recipe":
    """The recipe of that name, with what the options give instead of its own; a mistake in it ends the command."""
    from flows.recipe_file import RecipeError, load_recipe, settle

    try:
        found = load_recipe(name)
        return settle(found, output=output, workspace=workspace, workers=workers, runner=runner, shares=shares)
    except RecipeError as error:
        fail(str(error), BAD_INPUT)


def terminal_display(quiet: bool = False) -> "Display":
    """Where progress is shown."""
    from rich.console import Console

    from flows.display import Display

    # Progress goes to stderr: stdout is for the result.
    return Display(Console(stderr=True, quiet=quiet))


@contextmanager
def explained() -> Iterator[None]:
    """Turns the failures a user can cause into a message and an exit code; a bug keeps its traceback."""
    from pipeline.plan.quotas import QuotaError
    from pipeline.runtime.contract import BudgetError
    from pipeline.storage.files import disk_refusal
    from schemas.base import InputError

    try:
        yield
    except (QuotaError, BudgetError) as error:
        fail(str(error), FINDING)
    except (InputError, LookupError, ModuleNotFoundError) as error:
        fail(str(error), BAD_INPUT)
    except OSError as error:
        if told := disk_refusal(error):
            fail(told, BAD_INPUT)
        raise


def mixture_at(folder: str) -> "Place":
    """The folder of a mixture; ends the command where none lies there."""
    from flows.recount import need_mixture
    from pipeline.storage.places import place

    with explained():
        found = place(folder)
        need_mixture(found)
    return found


def need_folder(path: Path) -> None:
    """Ends the command where a file at `path` would have no folder."""
    if not path.parent.is_dir():
        fail(f"{path}: there is no folder {path.parent}; make it, or name another file", BAD_INPUT)


def fail(message: str, code: int) -> NoReturn:
    """Ends the command with a message."""
    typer.echo(f"mixture: {message}", err=True)
    raise SystemExit(code)
