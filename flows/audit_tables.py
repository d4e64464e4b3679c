"""What `mixture audit` prints: the recount in every unit, what was not checked, and findings one block each."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

import typer

from flows.tables import print_lines, print_table
from pipeline.audit.audit import AuditReport
from pipeline.audit.findings import Finding
from schemas.ledger import Count

TABLES = {"by_modality": "modality", "by_source": "source", "by_category": "category", "by_encoder": "encoder"}
"""Those of the recount that a terminal shows, and what their labels name; `--json` has all."""
UNITS = ("samples", "turns", "LLM tok", "vis tok", "clips", "frames", "hours", "bytes")
"""Every unit of a count, by the name of its column."""
SHORTENED = 1_000_000
"""From here on a number is told by four digits, so that eight columns fit; samples are always told to the last."""

INDENT = "    "
GAP = "  "
"""Between the columns of a table."""
_POWERS = ("", "k", "M", "G", "T", "P")


def print_audit(report: AuditReport, as_json: bool) -> None:
    """The recount, what is wrong, and the verdict."""
    if as_json:
        typer.echo(report.to_json(), nl=False)
        return
    width = shutil.get_terminal_size().columns
    for table, name in TABLES.items():
        if report.tables[table]:
            _print_counts(name, _rows(report.tables[table]), width)
    if report.not_checked:
        print_table("Not checked", ["check", "what it proves"], list(report.not_checked.items()))
    print_lines(finding_lines(report, width))
    root = f"root {report.root_sha256[:12]}" if report.root_sha256 else f"{len(report.not_checked)} left out"
    print_lines([f"audit: {report.verdict} ({len(report.checks)} checks, {root})"])


def finding_lines(report: AuditReport, width: int) -> Iterator[str]:
    """Of each finding its code, shard and key on a line, and what was seen below it; then how many are not told.

    Lines have `width` characters at most, but for names and digests, which are never cut.
    """
    if report.findings:
        yield "Findings"
    for finding in report.findings:
        yield where(finding)
        for line in finding.message.splitlines():
            yield from wrap(line, width, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False)
    left = sum(report.finding_counts.values()) - len(report.findings)
    if left:
        yield f"and {left:,} more of the same codes"
    if report.findings:
        yield ""


def where(finding: Finding) -> str:
    """Code, shard and key; the whole mixture where it is no tar's."""
    return "  ".join(part for part in (finding.code, finding.shard or "(mixture)", finding.key) if part)


def _print_counts(name: str, rows: Sequence[tuple[str, ...]], width: int) -> None:
    """A table; where labels would be cut, each stands on a line of its own, above its numbers."""
    title, head = f"Recounted from the tars, by {name}", (f"split/{name}", *UNITS)
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    if sum(widths) + len(GAP) * len(UNITS) <= width:
        print_table(title, [head[0], *(f"#{unit}" for unit in UNITS)], rows)
        return
    print_lines([title])
    for label, *numbers in (head, *rows):
        told = GAP.join(number.rjust(wide) for number, wide in zip(numbers, widths[1:], strict=True))
        print_lines([label, INDENT + told])
    print_lines([""])


def _rows(counts: Mapping[str, Count]) -> list[tuple[str, ...]]:
    return [(label, *cells(count)) for label, count in counts.items()]


def cells(count: Count) -> tuple[str, ...]:
    """A count in the order of `UNITS`."""
    numbers = (count.turns, count.llm_tokens, count.visual_tokens, count.clips, count.frames)
    hours = count.media_ns / 3.6e12
    return (
        f"{count.samples:,}",
        *(f"{number:,}" if number < SHORTENED else _short(number) for number in numbers),
        f"{hours:,.2f}" if hours < 1_000 else f"{hours:,.0f}",
        _short(count.bytes),
    )


def _short(number: int) -> str:
    """Four digits and a power of a thousand: `1.234 M`."""
    power = 0
    while number >= 999.95 * 1000**power and power < len(_POWERS) - 1:
        power += 1
    return f"{number / 1000**power:.4g} {_POWERS[power]}".rstrip()
