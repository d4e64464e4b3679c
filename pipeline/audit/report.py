"""`report.html`: the mixture on one page, in one file, for a person.

The page is a function of its inputs alone: it names no time, no host and no folder, loads nothing,
and runs no script, so equal mixtures have byte-identical reports that open from anywhere.
"""

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field, field_validator

from pipeline.audit.report_charts import amount, difference, histogram, number, short_bytes, short_duration
from pipeline.audit.report_view import category_rows, count_rows, split_shares, strata
from pipeline.storage.files import write_text
from pipeline.storage.places import Place
from schemas.base import Record
from schemas.ledger import Ledger, ShardSample

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "report.html"
"""The page's name in the mixture's folder."""

MOST_FINDINGS = 200
"""Findings written out; the rest are counted."""

TOKENS = ("llm_tokens", "visual_tokens")
"""Counts that are shown where there are any."""

JPEG_MAGIC = b"\xff\xd8"


class FindingLike(Protocol):
    """What the audit found wrong, wherever it is defined."""

    @property
    def code(self) -> str:
        """Which check."""

    @property
    def shard(self) -> str:
        """In which tar; empty where it is no one's."""

    @property
    def key(self) -> str:
        """Of which sample; empty where it is no one's."""

    @property
    def message(self) -> str:
        """What was seen and what was expected."""


class GalleryItem(Record):
    """One sample to look at."""

    sample: ShardSample
    thumbnails: tuple[bytes, ...] = ()
    """JPEG files: contact sheets of its clips, or its pictures; none for a text sample."""

    @field_validator("thumbnails")
    @classmethod
    def _check_jpeg(cls, thumbnails: tuple[bytes, ...]) -> tuple[bytes, ...]:
        for index, jpeg in enumerate(thumbnails):
            if not jpeg.startswith(JPEG_MAGIC):
                raise ValueError(f"thumbnail {index} begins with {jpeg[:4].hex()!r}, not ffd8: encode it as JPEG")
        return thumbnails


class ReportFigures(Record):
    """Distributions that the ledger's counts leave out."""

    durations_s: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = ()
    """Length of each film's span, seconds."""
    pts_error_ms: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = ()
    """t - pts of each stored frame, milliseconds: how much older than asked for the shown frame is."""


def write_report(
    path: Place,
    ledger: Ledger,
    findings: Sequence[FindingLike],
    gallery: Sequence[GalleryItem],
    figures: ReportFigures,
) -> None:
    """Writes the page to `path`, whole or not at all."""
    write_text(path, render_report(ledger, findings, gallery, figures))


def render_report(
    ledger: Ledger, findings: Sequence[FindingLike], gallery: Sequence[GalleryItem], figures: ReportFigures
) -> str:
    """The page's HTML."""
    tables = {
        name: count_rows(counts, ledger)
        for name, counts in (
            ("modality", ledger.by_modality),
            ("source", ledger.by_source),
            ("licence", ledger.by_licence),
            ("annotator", ledger.by_annotator),
            ("generator", ledger.by_generator),
            ("encoder", ledger.by_encoder),
        )
    }
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            ledger=ledger,
            findings=findings[:MOST_FINDINGS],
            findings_count=len(findings),
            gallery=gallery,
            splits=split_shares(ledger),
            strata=strata(ledger),
            counted={name: sum(getattr(c, name) for c in ledger.total.values()) for name in TOKENS},
            tables=tables | {"category": category_rows(ledger)},
            random_encoders=[encoder.name for encoder in ledger.encoders if encoder.is_random],
            durations=histogram(figures.durations_s),
            pts_errors=histogram(figures.pts_error_ms),
        )
    )


def data_uri(jpeg: bytes) -> str:
    """`jpeg` as the address of itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


@cache
def environment() -> "Environment":
    """Of the pages' templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("report_page")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        amount=amount,
        bytes=short_bytes,
        count="{:,}".format,
        difference=difference,
        data_uri=data_uri,
        duration=short_duration,
        number=number,
        words=lambda name: name.replace("_", " "),
    )
    return environment
