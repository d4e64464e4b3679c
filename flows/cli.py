"""The command `mixture`. Exit codes: 0 good, 1 finding, 2 usage or bad input.

Imports of this module are light on purpose: `mixture --help` and `validate` answer in under a
second; each command imports what it needs.
"""

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from flows.command import (
    BAD_INPUT,
    FINDING,
    INTERRUPTED,
    AmendOption,
    FolderArgument,
    JsonOption,
    OutputOption,
    RecipeArgument,
    RunnerOption,
    SharesOption,
    WorkersOption,
    WorkspaceOption,
    explained,
    fail,
    mixture_at,
    need_folder,
    read_recipe,
    terminal_display,
)
from flows.quarantine_cli import quarantine_app

if TYPE_CHECKING:
    from pipeline.audit.audit import AuditReport
    from pipeline.storage.places import Place

app = typer.Typer(
    name="mixture",
    help="Builds, proves and trains on the data mixture of a video LMM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(quarantine_app, name="quarantine")


def main() -> NoReturn:
    """Runs the command; every foreseen failure is one message and an exit code, never a traceback.

    Ctrl-C ends it with 130; the same command takes up where it stopped.
    """
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    sys.unraisablehook = _unraisable
    try:
        app()
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    command = shlex.join(["mixture", *sys.argv[1:]])
    fail(f"stopped; what is finished is kept, and the same command takes up from there: {command}", INTERRUPTED)


def _interrupt(*_: object) -> None:
    """Ctrl-C. Where a library swallows it (in a destructor, in an import it can do without) it comes again."""
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    answered: BaseException | None = sys.exception()
    while answered and not isinstance(answered, KeyboardInterrupt):
        answered = answered.__context__
    if not answered:  # and nobody is cleaning up on its account
        raise KeyboardInterrupt  # and no other: Ray's calls let only this one through


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    like: Annotated[
        str, typer.Option(help="Packaged recipe to start from: demo, align, vision, sft, sft-paper, apollo-4m.")
    ] = "demo",
    shares: SharesOption = None,
) -> None:
    """Write a recipe with every field explained."""
    from flows.starter import commented

    if path.exists():
        fail(f"{path} exists; name another file, or remove it", BAD_INPUT)
    need_folder(path)
    path.write_text(commented(read_recipe(like, shares=shares)), encoding="utf-8")
    typer.echo(f"wrote {path}; next: mixture validate {path}")


@app.command()
def validate(recipe: RecipeArgument) -> None:
    """Explain every mistake in a recipe, with its line and path."""
    found = read_recipe(recipe)
    shares = ", ".join(f"{m} {float(share):g} %" for m, share in found.mixture.shares.items())
    typer.echo(f"{recipe} is valid: {found.mixture.total} samples ({shares}) from {len(found.sources)} sources")


@app.command()
def sources() -> None:
    """List the kinds of source a recipe can name."""
    from flows.tables import print_source_kinds

    print_source_kinds()


@app.command()
def plan(
    recipe: RecipeArgument,
    workers: WorkersOption = None,
    runner: RunnerOption = None,
    workspace: WorkspaceOption = None,
    shares: SharesOption = None,
    rates: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What `mixture calibrate` wrote, or stated rates (stated-h100): hours and money.",
        ),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Plan for a workload stated in this file, or a packaged one; nothing is ingested."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the exact quotas, and what building takes. Exit 1 if the quotas cannot be met.

    Ingests the candidates; with --workload, or for a packaged recipe whose data are not at hand, it
    goes by a statement instead, and says so.
    """
    from flows.planning import choose_statement, plan_counted, plan_stated, with_shares
    from flows.rates_file import load_rates
    from flows.tables import print_plan
    from pipeline.plan.capacity import check_rates

    found = read_recipe(recipe, workers=workers, runner=runner, workspace=workspace, shares=shares)
    with explained():
        given = load_rates(rates) if rates else None
        if given:
            check_rates(found, given)
        statement, why = choose_statement(recipe, found, workload)
        if statement:
            statement = with_shares(statement, found.mixture.shares) if shares else statement
            print_plan(plan_stated(found, statement, why, given), as_json)
            return
        from flows.build import opened_build

        with opened_build(found, terminal_display(quiet=as_json)) as build:
            try:
                build.ingest(only_plan=True)
                build.plan()
            finally:
                build.record_rejections()
            chosen = build.first_choice()
            planned = plan_counted(found, chosen, build.quotas, given, build.barred, build.exclusions)
    print_plan(planned, as_json)


@app.command()
def calibrate(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="File to write, for `mixture plan --rates`.")] = Path("rates.json"),
    workers: WorkersOption = None,
    runner: RunnerOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Measure how fast this machine decodes and encodes the recipe's own media, and writes their talk."""
    from flows.build import opened_build
    from flows.calibrate import calibrate as measure
    from flows.calibrate import not_measured

    found = read_recipe(recipe, workers=workers, runner=runner, workspace=workspace)
    need_folder(out)
    with explained(), opened_build(found, terminal_display()) as build:
        try:
            build.ingest()
            build.plan()
        finally:
            build.record_rejections()
        rates = measure(found, build.first_choice(), build.roots)
    out.write_text(rates.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if reason := not_measured(found):
        typer.echo(f"generation was not measured: {reason}")
    typer.echo(f"wrote {out}; put your prices into it, then: mixture plan {recipe} --rates {out}")


@app.command()
def build(
    recipe: RecipeArgument,
    workers: WorkersOption = None,
    runner: RunnerOption = None,
    workspace: WorkspaceOption = None,
    output: OutputOption = None,
    amend: AmendOption = False,
    shares: SharesOption = None,
) -> None:
    """Build the mixture, audit it and write its report; run again to resume."""
    from flows.build import opened_build
    from flows.change_rows import change_words

    found = read_recipe(recipe, workers=workers, runner=runner, workspace=workspace, output=output, shares=shares)
    display = terminal_display()
    with explained(), opened_build(found, display, amend) as running:
        running.run()
    report = running.findings
    if amend and running.ledger.history:
        display.say(f"last change: {change_words(running.ledger.history[-1])}")
    display.say(f"{running.folder}: {len(running.ledger.shards)} shards, root {running.ledger.root_sha256[:12]}")
    display.say(f"audit: {report.verdict}; report: {running.report}")
    if not report.ok:
        display.say(f"not published: {found.output} is left as it was; `mixture audit {running.folder}` says more")
        raise typer.Exit(FINDING)


@app.command()
def audit(
    folder: FolderArgument,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Also say what changed from this mixture to FOLDER.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Take OTHER's ledger at its word: it is not audited.")
    ] = False,
    as_json: JsonOption = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; where not given, all cores, less for a mixture under 1 GB a core."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Headers and JSON alone: no digests, no arrays, no proof.")
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Also find samples that this exclusion list names; may be repeated."),
    ] = None,
) -> None:
    """Recount a mixture from its tars alone; exit 1 on a finding. A difference to another is no finding."""
    from flows.audit_tables import print_audit

    mixture = mixture_at(folder)
    if against is None:
        if trust:
            fail("--trust goes with --against OTHER", BAD_INPUT)
        report = _recounted(mixture, workers, quick, exclude)
        print_audit(report, as_json)
    else:
        from flows.difference_tables import print_comparison
        from pipeline.audit.compare import compare

        old = mixture_at(against)
        with explained():
            difference = compare(mixture, old)
        report = _recounted(mixture, workers, quick, exclude)
        other = None if trust else _recounted(old, workers, quick)
        print_comparison(report, difference, other, as_json)
    if not report.ok:
        raise typer.Exit(FINDING)


@app.command()
def inspect(
    folder: FolderArgument,
    key: Annotated[str, typer.Argument(help="A sample's key; the first few where none is given.")] = "",
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
) -> None:
    """Show samples of a mixture: talk, times, arrays and where they came from."""
    from flows.tables import print_samples

    mixture = mixture_at(folder)
    with explained():
        print_samples(mixture, split, key)


@app.command()
def status(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    output: OutputOption = None,
    shares: SharesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is built, trained and scored."""
    from flows.tables import print_status

    found = read_recipe(recipe, workspace=workspace, output=output, shares=shares)
    with explained():
        print_status(found, as_json)


@app.command()
def clean(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    output: OutputOption = None,
    columns: Annotated[
        bool, typer.Option("--columns", help="Also columns that the mixture in the output folder does not hold.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove the whole workspace, trained checkpoints too.")
    ] = False,
) -> None:
    """Remove what killed runs left behind; finished work and the mixture stay."""
    from flows.clean import clean_workspace
    from pipeline.storage.places import place

    found = read_recipe(recipe, workspace=workspace, output=output)
    if columns:
        mixture_at(found.output)
    with explained():
        removed, size = clean_workspace(place(found.workspace), place(found.output), everything, columns)
    typer.echo(f"removed {removed} files, {size / 1e6:.1f} MB")


@app.command()
def train(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    output: OutputOption = None,
    shares: SharesOption = None,
) -> None:
    """Train on the built mixture in Apollo's three stages."""
    from flows.learning import train_mixture

    found = read_recipe(recipe, workspace=workspace, output=output, shares=shares)
    mixture_at(found.output)
    with explained():
        train_mixture(found, terminal_display())


@app.command()
def evaluate(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    output: OutputOption = None,
    shares: SharesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the trained model on held-out questions against blind baselines; exit 1 if it is no better."""
    from flows.learning import evaluate_model
    from flows.tables import print_scores

    found = read_recipe(recipe, workspace=workspace, output=output, shares=shares)
    mixture_at(found.output)
    with explained():
        scores = evaluate_model(found, terminal_display(quiet=as_json))
    print_scores(scores.model_dump(mode="json"), as_json)
    if not scores.sees:
        raise typer.Exit(FINDING)


def _recounted(
    folder: "Place", workers: int | None, quick: bool, exclude: list[str] | None = None
) -> "AuditReport":
    from flows.exclusion_files import read_exclusions
    from flows.recount import recounted
    from pipeline.audit.excluded import ExcludedCheck
    from pipeline.audit.workers import WorkerDeathError

    excluded = ExcludedCheck() if exclude else None
    if excluded:
        with explained():
            read_exclusions(exclude or [], excluded.add)
    try:
        return recounted(folder, workers, quick, excluded)
    except WorkerDeathError as error:
        fail(str(error), BAD_INPUT)


if __name__ == "__main__":
    main()
