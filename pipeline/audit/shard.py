"""One shard with its columns: all that can be told of it without the others.

Shards are looked at apart, in any process and any order; `audit` puts the parts together in the order of the tars.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from re import compile as pattern

from pydantic import ValidationError

from pipeline.audit.columns import ColumnAudit
from pipeline.audit.excluded import ExcludedCheck
from pipeline.audit.findings import Code, FindingLog
from pipeline.audit.recount import Recount, ShardFound
from pipeline.audit.sample_checks import COLUMN_CHECKS, SAMPLE_CHECKS, Opened, check_tokens, open_members
from pipeline.audit.scan import ShardScan, TarSample
from pipeline.audit.tokens import TokenCounter, TokenError, load_counter
from pipeline.storage.places import Place
from schemas.base import KEY_PATTERN
from schemas.ledger import Ledger, ShardSample
from schemas.sample import Modality

QUICK_SAMPLE_CHECKS = tuple(check for check in SAMPLE_CHECKS if check not in (*COLUMN_CHECKS, check_tokens))
"""Those that need the JSON alone, and no tokenizer."""
_KEY = pattern(KEY_PATTERN)


@dataclass
class Part:
    """What one tar and its columns hold: counts, keys and findings, no arrays."""

    recount: Recount = field(default_factory=Recount)
    log: FindingLog = field(default_factory=FindingLog)
    suffixes: list[str] = field(default_factory=list)
    """Of the members of its first sample; without a ledger they must be the same in all tars."""


def audit_shard(
    folder: Place, ledger: Ledger | None, quick: bool, excluded: ExcludedCheck | None, name: str
) -> Part:
    """Reads one tar to its end, whatever it holds, and those of the columns beside it; never raises for it."""
    part = Part()
    if ledger is not None:
        part.recount.tokens_per_frame, part.recount.unit = ledger.tokens_per_frame, ledger.unit
    shard = _Shard(ledger, quick, excluded, part, _token_counter(folder, ledger, quick))
    keys = shard.read(folder, name)
    if ledger is None:
        return part
    for column in ledger.columns:
        audit = ColumnAudit(folder, ledger, column.encoder, part.log, quick)
        tar = audit.tar(name, keys, shard.records)
        part.recount.columns[column.encoder] = [tar] if tar else []
        part.recount.member_bytes.update(audit.member_bytes)
        for record, sizes, losses in audit.samples:
            part.recount.add_encoded(record, sizes)
            part.recount.add_losses(len(record.clips), losses)
    return part


class _Shard:
    """The pass over one tar: each sample is parsed, checked, counted and let go."""

    def __init__(
        self,
        ledger: Ledger | None,
        quick: bool,
        excluded: ExcludedCheck | None,
        part: Part,
        count: TokenCounter | None,
    ) -> None:
        self._ledger, self._quick, self._recount, self._log = ledger, quick, part.recount, part.log
        self._part, self._count = part, count
        self._suffixes = _promised(ledger) if ledger else None
        asked = (excluded.check_excluded,) if excluded else ()
        self._checks = (*(QUICK_SAMPLE_CHECKS if quick else SAMPLE_CHECKS), *asked)
        self.records: dict[str, ShardSample] = {}
        """The sound ones by key, where a column will be held against them."""

    def read(self, folder: Place, name: str) -> list[str]:
        """Keys in the tar's order."""
        scan, count, modalities = (
            ShardScan(folder, name, self._log, self._quick),
            Counter[str](),
            Counter[Modality](),
        )
        keys = []
        try:
            for found in scan:
                record = self._sample(found)
                keys.append(found.key)
                self._recount.member_bytes.update(found.sizes)
                if record is not None:
                    count.update(self._recount.add(record, found.sizes))
                    modalities[record.modality] += 1
                    if self._ledger and self._ledger.columns:
                        self.records[found.key] = record
        except OSError as error:
            self._log.add(Code.TAR_DAMAGED, f"cannot be read: {error}", name)
        self._recount.shards.append(ShardFound(name, scan.sha256, scan.size_bytes, count, modalities))
        return keys

    def _sample(self, found: TarSample) -> ShardSample | None:
        def report(code: Code, message: str) -> None:
            self._log.add(code, message, found.shard, found.key)

        self._check_names(found, report)
        opened = _open(found, report)
        if opened is None:
            return None
        if self._count:
            opened = _tokens_counted(opened, self._count, report)
        for check in self._checks:
            for code, message in check(opened, self._ledger):
                report(code, message)
        return opened.record

    def _check_names(self, found: TarSample, report: Callable[[Code, str], None]) -> None:
        """A dot in a key merges samples without an error; readers infer columns from the first samples."""
        if not _KEY.fullmatch(found.key):
            report(Code.KEY_INVALID, f"key {found.key!r} does not match {KEY_PATTERN}")
        if first := self._recount.keys.get(found.key):
            report(Code.KEY_TWICE, f"this key was met before, in {first}")
        self._recount.keys.setdefault(found.key, found.shard)
        self._part.suffixes = self._part.suffixes or found.suffixes
        expected = self._suffixes or self._part.suffixes
        if found.suffixes != expected:
            report(Code.MEMBERS_DIFFER, f"members are {found.suffixes}, must be {expected} in this order")


def _open(found: TarSample, report: Callable[[Code, str], None]) -> Opened | None:
    """The sample's members parsed; None where its JSON is no sample, and then it cannot be counted."""
    try:
        record = ShardSample.model_validate_json(found.json("json"))
    except ValidationError as error:
        report(Code.JSON_INVALID, f"its json is no sample: {error}")
        return None
    opened, defects = open_members(found, record)
    for code, message in defects:
        report(code, message)
    return opened


def _tokens_counted(opened: Opened, count: TokenCounter, report: Callable[[Code, str], None]) -> Opened:
    try:
        return replace(opened, tokens=count([turn.content for turn in opened.record.conversations]))
    except TokenError as error:
        report(Code.TOKENS_UNPROVEN, f"{error}")
        return opened


def _token_counter(folder: Place, ledger: Ledger | None, quick: bool) -> TokenCounter | None:
    """None where nothing is to be counted, or nothing can be; `audit` reports why."""
    if quick or ledger is None or not ledger.tokenizer_sha256:
        return None
    found = load_counter(folder, ledger)
    return None if isinstance(found, tuple) else found


def _promised(ledger: Ledger) -> list[str]:
    features = [f"{name}.npy" for encoder in ledger.in_shards for name in encoder.arrays]
    frames = [f"{e.name}.frames.{ledger.frames_suffix}" for e in ledger.in_shards] if ledger.frames_for else []
    return ["json", *features, *frames]
