"""What the Prefect pages show: progress of a build while it runs, its account when it is done, an audit."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast
from uuid import UUID

from httpx import HTTPError
from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from rich.console import Console

from flows.audit_page import audit_page
from flows.build import Build
from flows.display import Display, Update
from pipeline.audit.audit import AuditReport
from pipeline.audit.difference import Difference

MOVE_EVERY_S = 1.0
"""Seconds between two moves of a bar: each is a request to the server."""


class PagesDisplay(Display):
    """Lines go to the log of the running task; a step that takes over a second gets a progress artifact."""

    def __init__(self, name: str) -> None:
        super().__init__(Console(quiet=True), emit=lambda line: get_run_logger().info("%s", line))
        self._name = name

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Update]:
        """Shows one step from its first update to its end."""
        bar = _Bar(_key(f"{self._name} {label}"), label)
        with super().progress(label, total) as line:

            def update(done: int, total: int) -> None:
                line(done, total)
                bar.update(done, total)

            yield update
        bar.end()


class _Bar:
    """One progress artifact. A server that is away for a moment costs moves of the bar, never the build."""

    def __init__(self, key: str, label: str) -> None:
        self._key = key
        self._label = label
        self._artifact: UUID | None = None
        self._moved = time.monotonic()

    def update(self, done: int, total: int) -> None:
        """Moves the bar, unless it was moved less than `MOVE_EVERY_S` ago."""
        if time.monotonic() - self._moved >= MOVE_EVERY_S:
            self._moved = time.monotonic()
            self._move(100 * done / max(1, total))

    def end(self) -> None:
        """Fills the bar, if the step was long enough to have one."""
        if self._artifact is not None:
            self._move(100.0)

    def _move(self, percent: float) -> None:
        with suppress(HTTPError):
            if self._artifact is None:
                made = create_progress_artifact(percent, key=self._key, description=self._label)
                self._artifact = cast("UUID", made)  # called from synchronous code, it is no coroutine
            else:
                update_progress_artifact(self._artifact, percent)


def publish_artifacts(build: Build) -> None:
    """The summary, and the table of shares, of a build that is done."""
    name = build.recipe.name
    create_markdown_artifact(summary(build), key=_key(f"{name} summary"), description=build.findings.verdict)
    create_table_artifact(shares(build), key=_key(f"{name} shares"), description="Samples asked and found")


def publish_audit(name: str, report: AuditReport, place: str, found: Difference | None = None) -> None:
    """The page of an audit, passed or failed, of the mixture that lies at `place`."""
    create_markdown_artifact(
        audit_page(report, place, found), key=_key(f"{name} audit"), description=report.verdict
    )


def shares(build: Build) -> list[dict[str, str | int]]:
    """A row for each stratum: asked, found, its percent of the split, and first choices replaced."""
    total = {split: count.samples for split, count in build.ledger.total.items()}
    return [
        {
            "stratum": row.stratum,
            "asked": row.asked,
            "found": row.found,
            "share of split": f"{100 * row.found / total[row.stratum.partition('/')[0]]:.1f} %",
            "replaced": row.replaced,
        }
        for row in build.ledger.asked
        if row.asked
    ]


def summary(build: Build) -> str:
    """Verdict, where the mixture lies, and what became of every input, as Markdown."""
    ledger = build.ledger
    samples = ", ".join(f"{count.samples} {split}" for split, count in ledger.total.items())
    lines = [
        f"**{build.recipe.name}**: {build.findings.verdict}",
        "",
        f"- samples: {samples}",
        f"- mixture: `{build.folder.resolve()}`",
        f"- report: `{build.report.resolve()}`",
        f"- root digest: `{ledger.root_sha256}`",
        f"- encoders: {', '.join(f'{e.name} ({e.weights})' for e in ledger.encoders) or 'none'}",
        "",
        "| stage | in | out | rejected | left in reserve |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {f.stage} | {f.inputs} | {f.outputs} | {f.rejected} | {f.reserve} |" for f in ledger.flows),
    ]
    if ledger.rejected:
        lines += ["", "Rejected: " + ", ".join(f"{count} {why}" for why, count in ledger.rejected.items())]
    if barred := sum(flow.barred for flow in ledger.flows):
        lines += ["", f"Barred by the recipe's gates, between the plan's in and out: {barred}"]
    return "\n".join(lines) + "\n"


def _key(text: str) -> str:
    """Prefect's form of a key: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
