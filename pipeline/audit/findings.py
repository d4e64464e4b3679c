"""What an audit may find wrong: typed, so that a test, a report and a program can tell them apart."""

from collections import Counter
from enum import StrEnum

from pydantic import Field

from schemas.base import Record

KEPT_A_CODE = 100
"""Findings of one code kept with their message; beyond it they are counted only."""


class Code(StrEnum):
    """One kind of defect each."""

    LEDGER_UNREADABLE = "ledger_unreadable"
    FLOW_LEAKS = "flow_leaks"
    HISTORY_BELIED = "history_belied"
    SHARD_MISSING = "shard_missing"
    SHARD_UNKNOWN = "shard_unknown"
    SHARD_CHANGED = "shard_changed"
    ROOT_CHANGED = "root_changed"
    TAR_DAMAGED = "tar_damaged"
    TAR_HEADER = "tar_header"
    KEY_INVALID = "key_invalid"
    KEY_TWICE = "key_twice"
    MEMBERS_DIFFER = "members_differ"
    JSON_INVALID = "json_invalid"
    JSON_MISPLACED = "json_misplaced"
    MODALITY_BELIED = "modality_belied"
    LICENCE_EMPTY = "licence_empty"
    LICENCE_BARRED = "licence_barred"
    ANNOTATOR_BARRED = "annotator_barred"
    GENERATOR_BARRED = "generator_barred"
    ROLES_BROKEN = "roles_broken"
    TEXT_UNBOUND = "text_unbound"
    TIMES_OFF_GRID = "times_off_grid"
    CLIP_OUTSIDE = "clip_outside"
    ENCODERS_DIFFER = "encoders_differ"
    ARRAY_INVALID = "array_invalid"
    FEATURE_SHAPE = "feature_shape"
    FEATURE_NOT_FINITE = "feature_not_finite"
    FRAMES_SHAPE = "frames_shape"
    COUNTS_DIFFER = "counts_differ"
    QUOTA_MISSED = "quota_missed"
    SHARE_INEXACT = "share_inexact"
    PREFIX_OFF_SHARE = "prefix_off_share"
    SHARD_OFF_SHARE = "shard_off_share"
    COLUMN_MISALIGNED = "column_misaligned"
    COLUMN_UNBOUND = "column_unbound"
    HELDOUT_LEAKED = "heldout_leaked"
    MEDIUM_UNNAMED = "medium_unnamed"
    EXCLUDED_KEY = "excluded_key"
    EXCLUDED_MEDIUM = "excluded_medium"
    EXCLUDED_TEXT = "excluded_text"
    TOKENS_DIFFER = "tokens_differ"
    TOKENS_UNPROVEN = "tokens_unproven"
    TOKENIZER_CHANGED = "tokenizer_changed"
    DUPLICATE = "duplicate"
    DUPLICATE_ACROSS_SPLITS = "duplicate_across_splits"
    EPOCH_WITHOUT_ORIGINAL = "epoch_without_original"


class Finding(Record):
    """One defect and where it is."""

    code: Code
    shard: str = ""
    """Path in the mixture's folder; empty where the whole mixture is meant."""
    key: str = ""
    message: str = Field(max_length=4_000)
    """What was seen, and what was expected."""


class FindingLog:
    """Collects findings; a defect in every sample of a large mixture must not fill the memory."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: Counter[Code] = Counter()

    def add(self, code: Code, message: str, shard: str = "", key: str = "") -> None:
        """Takes one finding; messages quote strangers' data and are cut to a bounded length."""
        self._counts[code] += 1
        if self._counts[code] <= KEPT_A_CODE:
            self._kept.append(Finding(code=code, shard=shard, key=key[:200], message=message[:2_000]))

    def merge(self, later: "FindingLog") -> None:
        """Takes in what another log found behind this one's, as if it had been added here."""
        for finding in later._kept:
            self._counts[finding.code] += 1
            if self._counts[finding.code] <= KEPT_A_CODE:
                self._kept.append(finding)
        # Those that the other has not kept come behind enough that it has.
        for code, count in later._counts.items():
            self._counts[code] += max(0, count - KEPT_A_CODE)

    @property
    def kept(self) -> tuple[Finding, ...]:
        """The first of each code, in the order found."""
        return tuple(self._kept)

    @property
    def counts(self) -> dict[Code, int]:
        """All of them, by code."""
        return dict(self._counts)
