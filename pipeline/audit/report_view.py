"""The ledger as the report's tables show it: rows in a fixed order, shares beside counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from pipeline.audit.report_charts import percent, percent_words, width
from schemas.ledger import Asked, Count, Ledger
from schemas.sample import Category, Modality, Split
from schemas.units import Unit

APOLLO_VIDEO_CATEGORIES: Mapping[Category, float] = {
    Category.CONVERSATIONAL: 40.4,
    Category.REASONING: 34.7,
    Category.CAPTIONING: 16.6,
    Category.TEMPORAL_PERCEPTION: 6.1,
    Category.EGOCENTRIC: 1.5,
    Category.TEXT_RECOGNITION: 0.6,
}
"""Percent of video samples by annotation type (Apollo, arXiv 2412.10360, Fig. 7); 99.9 as printed."""


@dataclass(frozen=True)
class ShareRow:
    """One modality of a split: what was asked, what the tars hold."""

    name: str
    asked: int
    found: int
    recipe_percent: str
    """What the recipe says of the train split; the quota is the nearest that whole samples allow."""
    asked_percent: str
    found_percent: str
    asked_width: float
    found_width: float


@dataclass(frozen=True)
class SplitShares:
    """One split. Asked and found are in `unit`, seconds in nanoseconds."""

    name: str
    unit: Unit
    asked: int
    found: int
    rows: tuple[ShareRow, ...]

    @property
    def text(self) -> ShareRow:
        """The row whose share the paper is strict about."""
        return next(row for row in self.rows if row.name == Modality.TEXT)


@dataclass(frozen=True)
class StratumRow:
    """One stratum's quota, its label taken apart."""

    split: str
    modality: str
    source: str
    asked: Asked


@dataclass(frozen=True)
class CountRow:
    """One group of a split; shares are of the split's samples."""

    split: str
    name: str
    count: Count
    percent: str
    width: float
    apollo: float | None = None
    """Percent of the same group in Apollo's data, where the paper tells it."""


def strata(ledger: Ledger) -> list[StratumRow]:
    """Every quota, in the ledger's order."""
    rows = []
    for asked in ledger.asked:
        split, modality, source = asked.stratum.split("/", 2)
        rows.append(StratumRow(split, modality, source, asked))
    return rows


def split_shares(ledger: Ledger) -> list[SplitShares]:
    """Splits that were asked for or found, with all four modalities each."""
    quotas = strata(ledger)
    present = {quota.split for quota in quotas} | set(ledger.total)
    return [_split_shares(ledger, split, quotas) for split in Split if split in present]


def _split_shares(ledger: Ledger, split: str, quotas: list[StratumRow]) -> SplitShares:
    unit = ledger.unit if split == Split.TRAIN else Unit.SAMPLES
    field = "asked" if unit is Unit.SAMPLES else "target"
    asked = {
        m: sum(getattr(q.asked, field) for q in quotas if (q.split, q.modality) == (split, m)) for m in Modality
    }
    found = {m: ledger.by_modality.get(f"{split}/{m}", Count()).of(unit) for m in Modality}
    all_asked, all_found = sum(asked.values()), sum(found.values())
    rows = (
        ShareRow(
            m, asked[m], found[m], percent_words(ledger.shares.get(m, Fraction(0))),
            percent(asked[m], all_asked), percent(found[m], all_found),
            width(asked[m], all_asked), width(found[m], all_found),
        )
        for m in Modality
    )  # fmt: skip
    return SplitShares(split, unit, all_asked, all_found, tuple(rows))


def count_rows(counts: Mapping[str, Count], ledger: Ledger) -> list[CountRow]:
    """One row a key `split/name`: train first, largest first."""
    rows = []
    for label, count in counts.items():
        split, name = label.split("/", 1)
        rows.append(_count_row(ledger, split, name, count))
    order = list(Split)
    return sorted(rows, key=lambda row: (order.index(Split(row.split)), -row.count.samples, row.name))


def category_rows(ledger: Ledger) -> list[CountRow]:
    """All six annotation types of the train split in Apollo's order, then those of other splits."""
    train = (
        _count_row(ledger, Split.TRAIN, name, ledger.by_category.get(f"{Split.TRAIN}/{name}", Count()), share)
        for name, share in APOLLO_VIDEO_CATEGORIES.items()
    )
    others = (row for row in count_rows(ledger.by_category, ledger) if row.split != Split.TRAIN)
    return [*train, *others]


def _count_row(ledger: Ledger, split: str, name: str, count: Count, apollo: float | None = None) -> CountRow:
    whole = ledger.total.get(split, Count()).samples
    return CountRow(split, name, count, percent(count.samples, whole), width(count.samples, whole), apollo)
