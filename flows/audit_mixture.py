"""The Prefect flow `audit-mixture`: the same audit as `mixture audit`, its report left as an artifact."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.pages import publish_audit
from flows.recount import need_mixture, recounted
from pipeline.audit.audit import AuditReport
from pipeline.audit.compare import compare
from pipeline.audit.difference import Difference
from pipeline.audit.workers import WorkerDeathError
from pipeline.storage.places import Place, place
from schemas.base import InputError


def run_name() -> str:
    """Name of a run on the Prefect pages: the folder's own."""
    return _name(str(flow_run.parameters["folder"]))


@task(cache_policy=NO_CACHE, persist_result=False)
def recount(folder: Place, workers: int, quick: bool) -> AuditReport:
    """Audits one mixture."""
    return recounted(folder, workers, quick)


@task(cache_policy=NO_CACHE, persist_result=False)
def tell_apart(folder: Place, against: Place) -> Difference:
    """What changed from the one to the other."""
    return compare(folder, against)


@flow(name="audit-mixture", flow_run_name=run_name, persist_result=False)
def audit_mixture(folder: str, against: str | None = None, workers: int = 1, quick: bool = False) -> State[Any]:
    """Recounts a finished mixture from its tars alone. Fails on a finding; a difference to another is none.

    Args:
        folder: The mixture, seen from the repository's folder.
        against: Another one: also say what changed from it to `folder`.
        workers: Processes among which the tars are dealt.
        quick: Headers and JSON alone: no digests, no arrays, no proof.

    Returns:
        The completed state, with the root digest of the tars; or a failed one, with the verdict.
    """
    try:
        need_mixture(place(folder))
        difference = None
        if against is not None:
            need_mixture(place(against))
            difference = tell_apart(place(folder), place(against))
        report = recount(place(folder), workers, quick)
        other = recount(place(against), workers, quick) if against is not None else None
    except (InputError, WorkerDeathError) as error:
        return Failed(message=str(error))
    publish_audit(_name(folder), report, folder, difference)
    verdict = f"{folder}: audit {report.verdict}"
    if other is not None:
        verdict += f"; the other, {against}: {other.verdict}"
    return Completed(message=verdict, data=report.root_sha256) if report.ok else Failed(message=verdict)


def _name(folder: str) -> str:
    """The last part of the path, of `.` too."""
    found = place(folder)
    return found.resolve().name if isinstance(found, Path) else found.name
