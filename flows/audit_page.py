"""An audit as Markdown, for the Prefect pages: verdict, shares, counts in every unit, findings."""

from collections import Counter
from fractions import Fraction

from flows.audit_tables import UNITS, cells
from pipeline.audit.audit import AuditReport
from pipeline.audit.difference import Difference, Tars
from pipeline.audit.findings import Finding
from schemas.ledger import Count, Ledger
from schemas.sample import Modality, Split
from schemas.units import Unit

MOST_FINDINGS = 200
"""Findings written out; the rest are counted."""


def audit_page(report: AuditReport, place: str, found: Difference | None = None) -> str:
    """The page of the mixture that lies at `place`; `found` is what changed since another one.

    What strangers wrote stands in code spans, where it cannot be markup.
    """
    lines = [f"**Audit {report.verdict}**", "", f"- mixture: {_code(place)}"]
    if report.root_sha256:
        lines.append(f"- root digest of the tars: `{report.root_sha256}`")
    lines.append(f"- {len(report.checks)} checks ran, {len(report.not_checked)} were left out")
    if report.ledger:
        lines += ["", "## Shares", "", *_share_lines(report, report.ledger)]
    lines += ["", "## Counted in the tars", "", *_count_lines(report)]
    lines += ["", "## Findings", "", *_finding_lines(report)]
    if found is not None:
        lines += ["", "## What changed", "", *_change_lines(found)]
    return "\n".join(lines) + "\n"


def _share_lines(report: AuditReport, ledger: Ledger) -> list[str]:
    asked, target, measured = Counter[str](), Counter[str](), Counter[str]()
    for row in ledger.asked:
        label = "/".join(row.stratum.split("/")[:2])
        asked[label] += row.asked
        target[label] += row.target
    found = report.tables["by_modality"]
    measured.update({label: count.of(ledger.unit) for label, count in found.items()})
    in_unit = [] if ledger.unit is Unit.SAMPLES else [f"{ledger.unit.field} asked", f"{ledger.unit.field} found"]
    rows = []
    for label in sorted(asked.keys() | found.keys()):
        split, _, modality = label.partition("/")
        whole = report.tables["total"].get(split, Count()).of(ledger.unit)
        recipe = ledger.shares.get(Modality(modality), Fraction(0)) if split == Split.TRAIN else None
        rows.append(
            [
                label,
                f"{asked[label]:,}",
                f"{found.get(label, Count()).samples:,}",
                *([f"{target[label]:,}", f"{measured[label]:,}"] if in_unit else []),
                f"{float(Fraction(100 * measured[label], whole or 1)):.3f} %",
                "" if recipe is None else f"{float(recipe):g} %",
            ]
        )
    heads = ["split/modality", "samples asked", "samples found", *in_unit, "share of split", "recipe's share"]
    return _table(heads, rows)


def _count_lines(report: AuditReport) -> list[str]:
    return _table(
        ["split/modality", *UNITS], [[label, *cells(c)] for label, c in report.tables["by_modality"].items()]
    )


def _finding_lines(report: AuditReport) -> list[str]:
    if report.ok:
        return ["None."]
    shown = report.findings[:MOST_FINDINGS]
    counts = [f"- {code}: {count:,}" for code, count in report.finding_counts.items()]
    told = sum(report.finding_counts.values())
    head = [f"The first {len(shown):,} of {told:,}:", ""] if told > len(shown) else []
    return [*counts, "", *head, *(_finding_line(finding) for finding in shown)]


def _finding_line(finding: Finding) -> str:
    place = " ".join(_code(part) for part in (finding.shard, finding.key) if part) or "the whole mixture"
    return f"1. **{finding.code}** {place}: {_code(finding.message)}"


def _change_lines(found: Difference) -> list[str]:
    if found.identical:
        return ["Nothing: the same tars in the same order."]
    samples = [["added", found.added], ["removed", found.removed], ["kept", found.kept]]
    samples += [["kept, with another text", _told(found.text)], ["kept, with other media", _told(found.media)]]
    tars = [_tar_row(name, each) for name, each in (("shards", found.shards), ("columns", found.columns))]
    return [
        *_table(["samples", "number"], samples),
        "",
        *_table(["tars", "unchanged", "rewritten", "new", "gone"], tars),
    ]


def _told(number: int | None) -> int | str:
    return "not told" if number is None else number


def _tar_row(name: str, tars: Tars) -> list[object]:
    return [name, tars.unchanged, len(tars.rewritten), len(tars.new), len(tars.gone)]


def _table(heads: list[str], rows: list[list[str]] | list[list[object]] | list[list[str | int]]) -> list[str]:
    begin = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return [*begin, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]


def _code(text: str) -> str:
    """A span that no text can leave: one line, no backtick."""
    plain = "".join(c if c.isprintable() else " " for c in text.replace("`", "'"))
    return f"`{' '.join(plain.split()) or ' '}`"
