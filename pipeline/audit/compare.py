"""What changed between two mixtures, from their ledgers and indexes: millions of samples without opening a tar.

Keys of both are in memory, and one more column of both at a time. It trusts what it reads: the audit of
each mixture proves the ledger, and an index that does not count what its ledger counts is refused.
"""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipeline.audit import ledgers
from pipeline.audit.difference import KEPT_A_KIND, Difference, Kind, Setting, Turnover
from pipeline.storage.places import Place
from schemas.base import InputError
from schemas.ledger import INDEX, Ledger

LABELS = ("source", "modality", "category", "licence", "generator")
NEEDED = pa.schema(dict.fromkeys(("split", "key", *LABELS), pa.string()) | {"clips": pa.int32()})
HELD = {"by_modality": "modality", "by_source": "source", "by_licence": "licence"}
"""Tables of the ledger by which an index is known for its own, and their columns."""


class Side:
    """One of the two mixtures."""

    def __init__(self, folder: Place) -> None:
        self.folder = folder
        try:
            self.ledger = Ledger.read(folder)
            self._file = pq.ParquetFile((folder / INDEX).open("rb"))
            if absent := [f.name for f in NEEDED if f not in list(self._file.schema_arrow)]:
                raise KeyError(f"{INDEX} has no column {', '.join(absent)} of its kind")
            self.keys = self.column("key")
            found = self._strangeness()
        except (OSError, ValidationError, pa.ArrowException, KeyError) as error:
            raise InputError(f"{folder} cannot be compared: {error}") from None
        if found:
            raise InputError(
                f"{folder / INDEX} is not the index of its ledger: {found}. Build it again, or restore both"
            )

    def column(self, name: str) -> pa.ChunkedArray:
        """Read anew each time, so that memory holds no more than is compared."""
        return self._file.read(columns=[name])[name]

    def tells(self, name: str) -> bool:
        """Whether the index has that column: those of older mixtures have fewer."""
        return name in self._file.schema_arrow.names

    def strata(self) -> pa.ChunkedArray:
        """`split/modality/source` of each row."""
        return _joined(self, "split", "modality", "source")

    def _strangeness(self) -> str:
        """Where the index counts other samples than the ledger; empty where it does not."""
        for table, name in HELD.items():
            told = {label: count.samples for label, count in getattr(self.ledger, table).items()}
            if found := _difference(_counted(_joined(self, "split", name)), told):
                return found
        return ""


def compare(folder: Place, against: Place) -> Difference:
    """What changed from the mixture in `against` to that in `folder`.

    Raises InputError where a ledger or an index cannot be read, or an index is not its ledger's.
    """
    after, before = Side(folder), Side(against)
    old, new = before.ledger, after.ledger
    rows = Rows(before, after)
    return Difference(
        identical=old.root_sha256 == new.root_sha256,
        root_sha256=Setting(before=old.root_sha256, after=new.root_sha256),
        settings=ledgers.settings(old, new),
        added=rows.added,
        removed=rows.removed,
        kept=rows.kept,
        text=rows.changed("text", "text_digest"),
        media=rows.changed("media", "media_digest"),
        features=rows.features(),
        labels=rows.changed("labels", *LABELS) or 0,
        split=rows.changed("split", "split") or 0,
        keys=rows.keys,
        strata=rows.strata(),
        counts=ledgers.counts(old, new),
        shares=ledgers.shares(old, new),
        encoders=ledgers.encoders(old, new),
        origins=ledgers.origins(old, new),
        shards=ledgers.shards(old, new),
        columns=ledgers.columns(old, new),
        notes=tuple(rows.notes()),
    )


class Rows:
    """The samples of both, matched by key."""

    def __init__(self, before: Side, after: Side) -> None:
        self._before, self._after = before, after
        at = pc.index_in(after.keys, value_set=before.keys.combine_chunks())
        self._is_kept = pc.is_valid(at)
        self._at = at.drop_null()
        self._is_gone = pc.invert(pc.is_in(before.keys, value_set=after.keys.combine_chunks()))
        self.kept = len(self._at)
        self.added, self.removed = len(after.keys) - self.kept, pc.sum(self._is_gone).as_py() or 0
        self.keys: dict[Kind, tuple[str, ...]] = {}
        self._name("added", after.keys.filter(pc.invert(self._is_kept)))
        self._name("removed", before.keys.filter(self._is_gone))

    def changed(self, kind: Kind, *names: str) -> int | None:
        """Kept samples that differ in any of these columns; None where an index lacks one."""
        differs = self._differs(*names)
        if differs is None:
            return None
        self._name(kind, self._after.keys.filter(self._is_kept).filter(differs))
        return int(pc.sum(differs).as_py() or 0)

    def features(self) -> int | None:
        """Kept samples with media whose features cannot be the same."""
        has_media = pc.greater(self._after.column("clips").filter(self._is_kept), 0)
        if self._other_encoders():
            return int(pc.sum(has_media).as_py() or 0)
        differs = self._differs("media_digest")
        return None if differs is None else int(pc.sum(pc.and_(has_media, differs)).as_py() or 0)

    def strata(self) -> dict[str, Turnover]:
        """Samples of each stratum on both sides, and how many came and went."""
        old, new = self._before.strata(), self._after.strata()
        before, after = _counted(old), _counted(new)
        added, removed = _counted(new.filter(pc.invert(self._is_kept))), _counted(old.filter(self._is_gone))
        return {
            label: Turnover(before=before[label], after=after[label], added=added[label], removed=removed[label])
            for label in sorted(before.keys() | after.keys())
        }

    def notes(self) -> list[str]:
        """What could not be told."""
        lacking = [str(s.folder) for s in (self._before, self._after) if not s.tells("text_digest")]
        return [
            "told from ledgers and indexes, no tar was read: features are told by encoder and frames, not by value",
            *(f"{INDEX} in {where} is of an older build: changed text and media are not told" for where in lacking),
        ]

    def _other_encoders(self) -> bool:
        changes = ledgers.encoders(self._before.ledger, self._after.ledger)
        return any(change.change == "changed" for change in changes)

    def _differs(self, *names: str) -> pa.ChunkedArray | None:
        found = None
        for name in names:
            if not (self._before.tells(name) and self._after.tells(name)):
                return None
            new, old = self._after.column(name).filter(self._is_kept), self._before.column(name).take(self._at)
            differs = pc.not_equal(new, old)
            found = differs if found is None else pc.or_(found, differs)
        return found

    def _name(self, kind: Kind, keys: pa.ChunkedArray) -> None:
        if len(keys):
            self.keys[kind] = tuple(keys.slice(0, KEPT_A_KIND).to_pylist())


def _joined(side: Side, *names: str) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*(side.column(name) for name in names), "/")


def _counted(labels: pa.ChunkedArray) -> Counter[str]:
    return Counter({row["values"]: row["counts"] for row in pc.value_counts(labels).to_pylist()})


def _difference(found: Counter[str], told: dict[str, int]) -> str:
    labels = sorted(found.keys() | told.keys())
    off = [f"{at} {found[at]} samples, not {told.get(at, 0)}" for at in labels if found[at] != told.get(at, 0)]
    return ", ".join(off[:3])
