"""What `mixture audit A --against B` prints."""

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction

from flows.audit_tables import print_audit
from flows.tables import Row, print_history, print_json, print_lines, print_table
from pipeline.audit.audit import AuditReport
from pipeline.audit.difference import Difference, Tars

SHOWN = 5
"""Tars, keys or names that one line names; `--json` has all but the keys."""


def print_comparison(report: AuditReport, found: Difference, other: AuditReport | None, as_json: bool) -> None:
    """The mixture's audit, what changed, and the verdict on the other; `other` is None where it was trusted."""
    if as_json:
        verdict = {"is_audited": other is not None, "ok": other.ok if other else None}
        against = {**verdict, "findings": other.finding_counts if other else {}, **found.model_dump(mode="json")}
        print_json({**json.loads(report.to_json()), "against": against})
        return
    print_audit(report, as_json=False)
    print_lines(["", f"the other: {_verdict(other)}"])
    if found.identical:
        print_lines(["the same tars in the same order, by their root digest"])
    print_table("Samples by key", ["what", "#samples", "such as"], _sample_rows(found))
    columns = ["split/modality/source", "#before", "#after", "#added", "#removed"]
    print_table("Strata", columns, [(at, s.before, s.after, s.added, s.removed) for at, s in found.strata.items()])
    shares = [(at, _percent(s.before), _percent(s.after)) for at, s in found.shares.items()]
    print_table("Shares", ["split/modality", "#before", "#after"], shares)
    print_table("Tars by digest", ["of", "#unchanged", "#rewritten", "#new", "#gone", "such as"], _tar_rows(found))
    for title, head, rows in _where_told(found):
        if rows:
            print_table(title, head, rows)
    if report.ledger:
        print_history(report.ledger)
    print_lines(f"note: {note}" for note in found.notes)


def _where_told(found: Difference) -> Iterator[tuple[str, list[str], list[Row]]]:
    """Tables that are left out where they are empty."""
    changed = [(change.encoder, change.change, ", ".join(change.fields)) for change in found.encoders]
    yield "Encoders", ["encoder", "change", "fields"], [*changed]
    yield "Came and gone", ["of", "came", "went"], _origin_rows(found)
    made = [(name, pair.before, pair.after) for name, pair in found.settings.items()]
    yield "Made otherwise", ["field", "before", "after"], [*made]


def _verdict(other: AuditReport | None) -> str:
    if other is None:
        return "not audited, its ledger is taken at its word"
    return other.verdict if other.ok else f"{other.verdict}; what it tells of itself is not proven"


def _sample_rows(found: Difference) -> list[Row]:
    untold = "not told"
    return [
        ("added", found.added, _some(found.keys.get("added", ()))),
        ("removed", found.removed, _some(found.keys.get("removed", ()))),
        ("kept", found.kept, ""),
        ("  with another text", untold if found.text is None else found.text, _some(found.keys.get("text", ()))),
        (
            "  with other media, spans or frames",
            untold if found.media is None else found.media,
            _some(found.keys.get("media", ())),
        ),
        ("  with other features", untold if found.features is None else found.features, ""),
        ("  under other labels", found.labels, _some(found.keys.get("labels", ()))),
        ("  in another split", found.split, _some(found.keys.get("split", ()))),
    ]


def _tar_rows(found: Difference) -> list[Row]:
    kinds = {"shards": found.shards, "columns": found.columns}
    return [
        (name, tars.unchanged, len(tars.rewritten), len(tars.new), len(tars.gone), _some(_touched(tars)))
        for name, tars in kinds.items()
    ]


def _touched(tars: Tars) -> tuple[str, ...]:
    return (*tars.rewritten, *tars.new, *tars.gone)


def _origin_rows(found: Difference) -> list[Row]:
    changed = {name: lists for name, lists in found.origins.items() if lists.came or lists.went}
    return [(name, _some(lists.came), _some(lists.went)) for name, lists in changed.items()]


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if names[SHOWN:] else "")


def _percent(share: Fraction) -> str:
    return f"{float(share):.3f} %"
