"""Two ledgers held against each other: how the mixtures were made, what they count, which tars they share."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Protocol

from pipeline.audit.difference import ComeAndGone, EncoderChange, Pair, Setting, Shares, Tars
from schemas.base import Sha256, canonical_json
from schemas.ledger import Count, Ledger

SETTINGS = (
    "recipe", "recipe_sha256", "fps", "sampling", "shares", "gates", "frames_for", "frames_codec", "asked",
)  # fmt: skip
"""Fields of a ledger that are told where they differ, each as its JSON."""
TABLES = (
    "total", "by_modality", "by_source", "by_category", "by_licence", "by_generator", "by_annotator", "by_encoder",
)  # fmt: skip


class Tar(Protocol):
    """A shard's or a column's entry in a ledger."""

    @property
    def name(self) -> str:
        """Path in the mixture's folder."""

    @property
    def sha256(self) -> Sha256:
        """Of the file."""


def settings(before: Ledger, after: Ledger) -> dict[str, Setting]:
    """What differs in how they were made; of `asked` the quotas alone."""
    told = [_told(ledger) for ledger in (before, after)]
    pairs = {name: Setting(before=told[0][name], after=told[1][name]) for name in SETTINGS}
    return {name: pair for name, pair in pairs.items() if pair.before != pair.after}


def _told(ledger: Ledger) -> dict[str, str]:
    fields = ledger.model_dump(mode="json", include=set(SETTINGS))
    fields["asked"] = {row.stratum: row.asked for row in ledger.asked}
    return {name: value if isinstance(value, str) else canonical_json(value) for name, value in fields.items()}


def counts(before: Ledger, after: Ledger) -> dict[str, dict[str, Pair]]:
    """Samples by table and label, equal ones too."""
    return {table: _pairs(getattr(before, table), getattr(after, table)) for table in TABLES}


def _pairs(before: Mapping[str, Count], after: Mapping[str, Count]) -> dict[str, Pair]:
    none = Count()
    return {
        label: Pair(before=before.get(label, none).samples, after=after.get(label, none).samples)
        for label in sorted(before.keys() | after.keys())
    }


def shares(before: Ledger, after: Ledger) -> dict[str, Shares]:
    """Of modalities in their split."""
    labels = sorted(before.by_modality.keys() | after.by_modality.keys())
    return {label: Shares(before=_share(before, label), after=_share(after, label)) for label in labels}


def _share(ledger: Ledger, label: str) -> Fraction:
    whole = ledger.total.get(label.partition("/")[0], Count()).samples
    return Fraction(100 * ledger.by_modality.get(label, Count()).samples, whole or 1)


def encoders(before: Ledger, after: Ledger) -> tuple[EncoderChange, ...]:
    """Encoders that came, went, changed, or lie elsewhere; in the order of `after`, the gone last."""
    old, new = ({encoder.name: encoder for encoder in ledger.encoders} for ledger in (before, after))
    apart = [{column.encoder for column in ledger.columns} for ledger in (before, after)]
    changes = []
    for name in (*new, *(name for name in old if name not in new)):
        if name not in old or name not in new:
            changes.append(EncoderChange(encoder=name, change="added" if name in new else "removed"))
        elif old[name] != new[name]:
            one, other = old[name].model_dump(), new[name].model_dump()
            fields = tuple(field for field in other if one[field] != other[field])
            changes.append(EncoderChange(encoder=name, change="changed", fields=fields))
        elif (name in apart[0]) != (name in apart[1]):
            changes.append(EncoderChange(encoder=name, change="moved"))
    return tuple(changes)


def origins(before: Ledger, after: Ledger) -> dict[str, ComeAndGone]:
    """Licences, annotators and generators that one of them alone has."""
    return {field: _come_and_gone(_names(before, field), _names(after, field)) for field in _ORIGINS}


_ORIGINS = ("licences", "annotators", "generators")


def _names(ledger: Ledger, field: str) -> set[str]:
    return {name for origin in ledger.origins.values() for name in getattr(origin, field)}


def _come_and_gone(before: set[str], after: set[str]) -> ComeAndGone:
    return ComeAndGone(came=tuple(sorted(after - before)), went=tuple(sorted(before - after)))


def shards(before: Ledger, after: Ledger) -> Tars:
    """Of the samples themselves."""
    return _tars(before.shards, after.shards)


def columns(before: Ledger, after: Ledger) -> Tars:
    """Of encoders in tars of their own."""
    return _tars(*([tar for column in ledger.columns for tar in column.shards] for ledger in (before, after)))


def _tars(before: Sequence[Tar], after: Sequence[Tar]) -> Tars:
    old, new = _names_and_digests(before), _names_and_digests(after)
    changed = [tar.name for tar in after if tar.sha256 not in old[1]]
    return Tars(
        unchanged=len(after) - len(changed),
        rewritten=tuple(name for name in changed if name in old[0]),
        new=tuple(name for name in changed if name not in old[0]),
        gone=tuple(tar.name for tar in before if tar.name not in new[0] and tar.sha256 not in new[1]),
    )


def _names_and_digests(tars: Iterable[Tar]) -> tuple[set[str], set[Sha256]]:
    tars = list(tars)
    return {tar.name for tar in tars}, {tar.sha256 for tar in tars}
