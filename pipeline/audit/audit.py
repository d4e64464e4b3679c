"""The audit: counts a finished mixture anew from its tars, then compares with what the ledger says.

It shares no code with the writer. It trusts neither tars nor ledger, and bad data never stops it:
each defect becomes a finding.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

from pydantic import ValidationError

from pipeline.audit.columns import ColumnAudit
from pipeline.audit.findings import Code, Finding, FindingLog
from pipeline.audit.mixture_checks import MIXTURE_CHECKS, prefix_deviations
from pipeline.audit.recount import TABLES, Recount, ShardFound
from pipeline.audit.sample_checks import SAMPLE_CHECKS, Opened, open_members
from pipeline.audit.scan import ShardScan, TarSample
from schemas.base import KEY_PATTERN, Rational, Record, Sha256
from schemas.ledger import Count, Ledger, ShardSample
from schemas.sample import Modality, Split

_SHARD = re.compile(r"(train|heldout)-\d{6}\.tar")
_KEY = re.compile(KEY_PATTERN)


class AuditReport(Record):
    """What was counted in the tars, and what is wrong."""

    ledger: Ledger | None
    """As found beside the tars; None where it cannot be read."""
    tables: dict[str, dict[str, Count]]
    """The audit's own counts: field of the ledger, then label."""
    prefix_deviations: dict[str, Rational]
    """By `split/modality`: samples that the worst prefix is off its exact share; under 1 is the law."""
    shards: int
    root_sha256: Sha256
    """Of the tars as found."""
    checks: dict[str, str]
    """Each check that ran, by name, and its reason."""
    finding_counts: dict[Code, int]
    """All findings, by code."""
    findings: tuple[Finding, ...]
    """The first of each code."""

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.finding_counts

    @property
    def verdict(self) -> str:
        """One line for a person."""
        samples = sum(count.samples for count in self.tables["total"].values())
        whole = f"{samples} samples in {self.shards} shards"
        if self.ok:
            return f"passed, {whole}"
        found = ", ".join(f"{code} {count}" for code, count in self.finding_counts.items())
        return f"failed, {sum(self.finding_counts.values())} findings in {whole}: {found}"

    def to_json(self) -> str:
        """For programs; `ok` beside the fields."""
        return json.dumps({"ok": self.ok, **self.model_dump(mode="json")}, indent=1, ensure_ascii=False) + "\n"


def audit(folder: Path) -> AuditReport:
    """Audits the mixture in `folder`; never raises for what the folder holds."""
    log, recount = FindingLog(), Recount()
    ledger = _read_ledger(folder, log)
    pass_ = _Pass(folder, ledger, recount, log)
    for name in _shard_names(folder, ledger, log):
        pass_.shard(name)
    pass_.close()
    deviations: dict[str, Fraction] = {}
    if ledger is not None:
        for check in MIXTURE_CHECKS:
            for code, message, shard in check(recount, ledger):
                log.add(code, message, shard)
        deviations = {label: worst for label, (worst, _) in prefix_deviations(recount, ledger).items()}
    return AuditReport(
        ledger=ledger,
        tables={table: recount.counts(table) for table in TABLES},
        prefix_deviations=deviations,
        shards=len(recount.shards),
        root_sha256=recount.root_sha256(),
        checks=_reasons((*SAMPLE_CHECKS, *MIXTURE_CHECKS)),
        finding_counts=log.counts,
        findings=log.kept,
    )


class _Pass:
    """The pass over all tars: each sample is parsed, checked, counted and let go."""

    def __init__(self, folder: Path, ledger: Ledger | None, recount: Recount, log: FindingLog) -> None:
        self._folder, self._ledger, self._recount, self._log = folder, ledger, recount, log
        self._suffixes = _promised(ledger) if ledger else None
        names = [column.encoder for column in ledger.columns] if ledger else []
        self._columns = {name: ColumnAudit(folder, ledger, name, log) for name in names} if ledger else {}
        recount.columns = {name: [] for name in names}

    def shard(self, name: str) -> None:
        """Reads one tar to its end, whatever it holds, and those of the columns beside it."""
        scan, count, modalities = ShardScan(self._folder, name, self._log), Counter[str](), Counter[Modality]()
        keys, records = [], {}
        try:
            for found in scan:
                record = self._sample(found)
                keys.append(found.key)
                sizes = {suffix: len(payload) for suffix, payload in found.members}
                self._recount.member_bytes.update(sizes)
                if record is not None:
                    count.update(self._recount.add(name, record, sum(sizes.values())))
                    modalities[record.modality] += 1
                    if self._columns:
                        records[found.key] = record
        except OSError as error:
            self._log.add(Code.TAR_DAMAGED, f"cannot be read: {error}", name)
        self._recount.shards.append(ShardFound(name, scan.sha256, scan.size_bytes, count, modalities))
        for encoder, column in self._columns.items():
            if tar := column.tar(name, keys, records):
                self._recount.columns[encoder].append(tar)

    def close(self) -> None:
        """Adds what the columns counted."""
        for column in self._columns.values():
            self._recount.member_bytes.update(column.member_bytes)
            for clips, losses in column.losses:
                self._recount.add_losses(clips, losses)

    def _sample(self, found: TarSample) -> ShardSample | None:
        def report(code: Code, message: str) -> None:
            self._log.add(code, message, found.shard, found.key)

        self._check_names(found, report)
        opened = _open(found, report)
        if opened is None:
            return None
        for check in SAMPLE_CHECKS:
            for code, message in check(opened, self._ledger):
                report(code, message)
        return opened.record

    def _check_names(self, found: TarSample, report: Callable[[Code, str], None]) -> None:
        """A dot in a key merges samples without an error; readers infer columns from the first samples."""
        if not _KEY.fullmatch(found.key):
            report(Code.KEY_INVALID, f"key {found.key!r} does not match {KEY_PATTERN}")
        if first := self._recount.keys.get(found.key):
            report(Code.KEY_TWICE, f"this key was met before, in {first}")
        suffixes = [suffix for suffix, _ in found.members]
        self._suffixes = self._suffixes or suffixes
        if suffixes != self._suffixes:
            report(Code.MEMBERS_DIFFER, f"members are {suffixes}, must be {self._suffixes} in this order")


def _open(found: TarSample, report: Callable[[Code, str], None]) -> Opened | None:
    """The sample's members parsed; None where its JSON is no sample, and then it cannot be counted."""
    try:
        record = ShardSample.model_validate_json(dict(found.members).get("json", b""))
    except ValidationError as error:
        report(Code.JSON_INVALID, f"its json is no sample: {error}")
        return None
    opened, defects = open_members(found, record)
    for code, message in defects:
        report(code, message)
    return opened


def _promised(ledger: Ledger) -> list[str]:
    features = [f"{name}.npy" for encoder in ledger.in_shards for name in encoder.arrays]
    frames = [f"{e.name}.frames.{ledger.frames_suffix}" for e in ledger.in_shards] if ledger.frames_for else []
    return ["json", *features, *frames]


def _read_ledger(folder: Path, log: FindingLog) -> Ledger | None:
    try:
        return Ledger.read(folder)
    except (OSError, ValidationError) as error:
        log.add(Code.LEDGER_UNREADABLE, f"{error}")
        return None


def _shard_names(folder: Path, ledger: Ledger | None, log: FindingLog) -> list[str]:
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
