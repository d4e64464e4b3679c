"""The audit of a folder as a user asks for it: by as many processes as are worth their start."""

from typing import TYPE_CHECKING

from pipeline.storage.places import Place
from schemas.base import InputError
from schemas.ledger import LEDGER

if TYPE_CHECKING:
    from pipeline.audit.audit import AuditReport
    from pipeline.audit.excluded import ExcludedCheck


def need_mixture(folder: Place) -> None:
    """Raises InputError where no mixture lies."""
    if not (folder / LEDGER).is_file():
        raise InputError(f"{folder} holds no mixture (no {LEDGER}); build one with `mixture build`")


def recounted(
    folder: Place, workers: int | None, quick: bool, excluded: "ExcludedCheck | None" = None
) -> "AuditReport":
    """The report; `workers` as given, else by the size of the tars. Raises WorkerError.

    `excluded` looks for what exclusion lists name.
    """
    from pipeline.audit.audit import audit
    from pipeline.audit.workers import worth_starting

    size_bytes = sum(path.stat().st_size for path in (folder / "shards").glob("*.tar"))
    return audit(folder, workers or worth_starting(size_bytes), quick, excluded)
