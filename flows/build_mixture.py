"""The Prefect flow `build-mixture`: the same build as `mixture build`, one task a step.

Resume is the workspace's (see `pipeline.runtime.workspace`), so Prefect's result cache stays off: a
run that is retried, or started anew, takes up what is done whatever Prefect's database remembers.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from flows.build import Build, opened_build
from flows.pages import PagesDisplay, publish_artifacts, publish_audit
from flows.recipe_file import RecipeError, load_recipe, settle
from pipeline.plan.quotas import QuotaError
from pipeline.runtime.contract import BudgetError
from schemas.base import InputError

FORESEEN = (InputError, QuotaError, BudgetError, LookupError, ModuleNotFoundError)
"""What a user can cause and mend. Their message is the state of the run; a bug keeps its traceback."""


def run_name() -> str:
    """Name of a run on the Prefect pages: the recipe's own, or its file's where it cannot be read."""
    recipe = str(flow_run.parameters["recipe"])
    try:
        return load_recipe(recipe).name
    except RecipeError:
        return Path(recipe).name


@task(cache_policy=NO_CACHE, persist_result=False)
def run_step(action: Callable[[], None]) -> State[Any] | None:
    """Runs one step of the build, whose results lie in the workspace. Gives the failed state, if it failed."""
    try:
        action()
    except FORESEEN as error:
        return Failed(message=str(error))
    return None


@flow(name="build-mixture", flow_run_name=run_name, persist_result=False)
def build_mixture(
    recipe: str = "demo",
    output: str | None = None,
    workspace: str | None = None,
    workers: int | None = None,
    runner: Literal["local", "ray"] | None = None,
    amend: bool = False,
    shares: str | None = None,
) -> State[Any]:
    """Builds a mixture, audits it and writes its report; a run that is retried takes up where it stopped.

    Args:
        recipe: A recipe file, seen from the repository's folder, or a packaged one: demo.
        output: Folder of the mixture, instead of the recipe's.
        workspace: Folder of artefacts, instead of the recipe's.
        workers: Actors a stage, instead of the recipe's.
        runner: `local` or `ray`, instead of the recipe's.
        amend: Change the mixture in the output folder: what stays is not made again.
        shares: Percent of text/image/multi-image/video, or the name of a packaged mixture, instead of the recipe's.

    Returns:
        The completed state, with the mixture's root digest; or a failed one, which says what to mend.
    """
    try:
        settled = settle(
            load_recipe(recipe), output=output, workspace=workspace, workers=workers, runner=runner, shares=shares
        )
    except RecipeError as error:
        return _failed(str(error))
    with opened_build(settled, PagesDisplay(settled.name), amend) as build:
        mistake = _run_steps(build)
    if mistake:
        return _failed(mistake)
    publish_artifacts(build)
    found = f"{build.folder}: audit {build.findings.verdict}"
    if not build.findings.ok:
        return _failed(f"{found}; {settled.output} is left as it was")
    return Completed(message=found, data=build.ledger.root_sha256)


def _run_steps(build: Build) -> str | None:
    """The message of the step that failed, if one did."""
    try:
        for name, action in build.steps():
            failed = run_step.with_options(name=name, task_run_name=name)(action)
            if failed is not None:
                return failed.message
            if name == "audit":  # now, so that it is there whatever becomes of the run
                publish_audit(build.recipe.name, build.findings, str(build.packed))
    finally:
        build.record_rejections()
    return None


def _failed(message: str) -> State[Any]:
    """The state of a run that a user can mend."""
    if deployment.id:
        # This process ends with the run, and Prefect's engine logs frames of its own twice on the way
        # out: they would bury the message.
        sys.tracebacklimit = 0
    return Failed(message=message)
