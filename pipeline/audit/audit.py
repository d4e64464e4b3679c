"""The audit: counts a finished mixture anew from its tars, then compares with what the ledger says.

It shares no code with the writer. It trusts neither tars nor ledger, and bad data never stops it:
each defect becomes a finding.
"""

import json
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from fractions import Fraction
from functools import partial

from pydantic import Field, ValidationError

from pipeline.audit.excluded import ExcludedCheck
from pipeline.audit.findings import Code, Finding, FindingLog
from pipeline.audit.mixture_checks import MIXTURE_CHECKS, QUICK_MIXTURE_CHECKS
from pipeline.audit.mixture_checks import Check as MixtureCheck
from pipeline.audit.recount import TABLES, Recount
from pipeline.audit.sample_checks import SAMPLE_CHECKS, Check
from pipeline.audit.shard import QUICK_SAMPLE_CHECKS, Part, audit_shard
from pipeline.audit.share_checks import prefix_deviations
from pipeline.audit.tokens import load_counter
from pipeline.audit.workers import in_order
from pipeline.storage.places import Place
from schemas.base import Rational, Record, Sha256
from schemas.ledger import Count, Ledger
from schemas.sample import Split

_SHARD = re.compile(r"(train|heldout)-\d{6}\.tar")


class AuditReport(Record):
    """What was counted in the tars, and what is wrong."""

    ledger: Ledger | None
    """As found beside the tars; None where it cannot be read."""
    tables: dict[str, dict[str, Count]]
    """The audit's own counts: field of the ledger, then label."""
    by_shard: dict[str, Count]
    """The same by tar; of columns, see `by_encoder` of the tables."""
    prefix_deviations: dict[str, Rational]
    """By `split/modality`: samples that the worst prefix is off its share; bounded by `Ledger.prefix_bound`."""
    shards: int
    root_sha256: Sha256 | None
    """Of the tars as found; None after a quick audit, which read only a part of them."""
    checks: dict[str, str]
    """Each check that ran, by name, and its reason."""
    not_checked: dict[str, str] = Field(default_factory=dict)
    """Each check that a quick audit left out; with any, the report is no proof of the mixture."""
    finding_counts: dict[Code, int]
    """All findings, by code."""
    findings: tuple[Finding, ...]
    """The first of each code."""

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.finding_counts

    @property
    def quick(self) -> bool:
        """Whether checks were left out."""
        return bool(self.not_checked)

    @property
    def verdict(self) -> str:
        """One line for a person."""
        samples = sum(count.samples for count in self.tables["total"].values())
        whole = f"{samples} samples in {self.shards} shards"
        if self.quick:
            whole += " by headers and JSON alone (quick: digests and arrays were not read, so it is no proof)"
        if self.ok:
            return f"passed, {whole}"
        found = ", ".join(f"{code} {count}" for code, count in self.finding_counts.items())
        return f"failed, {sum(self.finding_counts.values())} findings in {whole}: {found}"

    def to_json(self) -> str:
        """For programs; `ok` beside the fields."""
        return (
            json.dumps(
                {"ok": self.ok, "quick": self.quick, **self.model_dump(mode="json")}, indent=1, ensure_ascii=False
            )
            + "\n"
        )


def audit(
    folder: Place, workers: int = 1, quick: bool = False, excluded: ExcludedCheck | None = None
) -> AuditReport:
    """Audits the mixture in `folder`; never raises for what the folder holds. Raises WorkerError.

    Args:
        folder: The mixture.
        workers: Processes among which the tars are dealt; the report is the same for any number.
        quick: Read headers and JSON alone: no digest, no array. The report names the checks that are left out.
        excluded: What no sample may be, beside what the ledger says.
    """
    log, recount = FindingLog(), Recount()
    ledger = _read_ledger(folder, log)
    if ledger is not None:
        recount.columns = {column.encoder: [] for column in ledger.columns}
    if ledger is not None and ledger.tokenizer_sha256 and not quick:
        _check_tokenizer(folder, ledger, log)
    names = _shard_names(folder, ledger, log)
    with closing(in_order(partial(audit_shard, folder, ledger, quick, excluded), names, workers)) as parts:
        _put_together(zip(names, parts, strict=True), ledger, recount, log)
    sample_checks, mixture_checks = _checks(quick)
    deviations: dict[str, Fraction] = {}
    if ledger is not None:
        for check in mixture_checks:
            for code, message, *where in check(recount, ledger):
                log.add(code, message, *where)
        deviations = {label: worst for label, (worst, _) in prefix_deviations(recount, ledger).items()}
    asked = (excluded.check_excluded,) if excluded else ()
    ran = _reasons((*sample_checks, *asked, *mixture_checks))
    every = _reasons((*SAMPLE_CHECKS, *MIXTURE_CHECKS))
    return AuditReport(
        ledger=ledger,
        tables={table: recount.counts(table) for table in TABLES},
        by_shard={shard.name: Count(**shard.count) for shard in recount.shards},
        prefix_deviations=deviations,
        shards=len(recount.shards),
        root_sha256=None if quick else recount.root_sha256(),
        checks=ran,
        not_checked={name: reason for name, reason in every.items() if name not in ran},
        finding_counts=log.counts,
        findings=log.kept,
    )


def _put_together(
    parts: Iterable[tuple[str, Part]], ledger: Ledger | None, recount: Recount, log: FindingLog
) -> None:
    """Adds each shard's part, and what only two shards together can show."""
    suffixes: list[str] = []
    for name, part in parts:
        log.merge(part.log)
        for key in part.recount.keys:
            if first := recount.keys.get(key):
                log.add(Code.KEY_TWICE, f"this key was met before, in {first}", name, key)
        suffixes = suffixes or part.suffixes
        if ledger is None and part.suffixes and part.suffixes != suffixes:
            message = f"members of its first sample are {part.suffixes}, must be {suffixes} as in the first tar"
            log.add(Code.MEMBERS_DIFFER, message, name)
        recount.merge(part.recount)


def _checks(quick: bool) -> tuple[tuple[Check, ...], tuple[MixtureCheck, ...]]:
    return (QUICK_SAMPLE_CHECKS, QUICK_MIXTURE_CHECKS) if quick else (SAMPLE_CHECKS, MIXTURE_CHECKS)


def _read_ledger(folder: Place, log: FindingLog) -> Ledger | None:
    try:
        return Ledger.read(folder)
    except (OSError, ValidationError) as error:
        log.add(Code.LEDGER_UNREADABLE, f"{error}")
        return None


def _check_tokenizer(folder: Place, ledger: Ledger, log: FindingLog) -> None:
    """Told once: without it no sample's tokens are counted."""
    found = load_counter(folder, ledger)
    if isinstance(found, tuple):
        log.add(*found)


def _shard_names(folder: Place, ledger: Ledger | None, log: FindingLog) -> list[str]:
    """Tars by split and number; any file but these and the columns that a glob would catch is a finding."""
    names, columns = [], {tar.name for column in (ledger.columns if ledger else ()) for tar in column.shards}
    for path in (folder / "shards").glob("*.tar"):
        if _SHARD.fullmatch(path.name):
            names.append(f"shards/{path.name}")
        elif f"shards/{path.name}" not in columns and not path.name.startswith("."):
            log.add(Code.SHARD_UNKNOWN, "its name is not one of ours", f"shards/{path.name}")
    order = {split.value: place for place, split in enumerate(Split)}
    return sorted(names, key=lambda name: (order[name[len("shards/") :].partition("-")[0]], name))


def _reasons(checks: Iterable[Callable[..., object]]) -> dict[str, str]:
    """Name and first line of the docstring of each."""
    return {check.__name__: (check.__doc__ or "").strip().partition("\n")[0] for check in checks}
