"""Exact quotas: integers by the largest-remainder rule, from shares that are fractions.

Hamilton's method: each group gets the floor of its exact share, and the samples left over go to
the largest remainders. Never a float; ties go to the group named first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import floor

from schemas.plan import Barred, Quota, Stratum
from schemas.recipe import MixtureSpec
from schemas.sample import Modality, Split

TOLD = 3
"""Reasons for which candidates were barred that a message names, the commonest first."""


class QuotaError(ValueError):
    """A quota that the candidates cannot fill. The message says who falls short and what could be met."""


def apportion(total: int, weights: Mapping[str, Fraction]) -> dict[str, int]:
    """`total` split in proportion to `weights`: the parts sum to `total`, each within one of its exact share.

    Raises ValueError for a negative weight, or when there is something to give and nobody to take it.
    """
    if bad := {name: weight for name, weight in weights.items() if weight < 0}:
        raise ValueError(f"negative weights {bad}")
    whole = sum(weights.values(), Fraction(0))
    if whole == 0:
        if total:
            raise ValueError(f"{total} samples to share, but every weight is zero: {list(weights)}")
        return dict.fromkeys(weights, 0)
    exact = {name: total * weight / whole for name, weight in weights.items()}
    parts = {name: floor(share) for name, share in exact.items()}
    rank = {name: index for index, name in enumerate(weights)}
    by_remainder = sorted(exact, key=lambda name: (parts[name] - exact[name], rank[name]))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def quotas(spec: MixtureSpec, candidates: Mapping[Stratum, int], barred: Sequence[Barred] = ()) -> list[Quota]:
    """The quota of every stratum that has one, train before heldout, in the order of the shares.

    `candidates` counts what ingest found and the gates let in, `barred` what they shut out. A source that is
    barred whole keeps its quota, and falls short: its share would otherwise go to others in silence. Raises
    QuotaError if any stratum has fewer than its quota.
    """
    out = _by_stratum(barred)
    candidates = {**dict.fromkeys(out, 0), **candidates}
    wanted = _wanted(spec, spec.total, candidates)
    if short := _shortfalls(wanted, candidates, barred):
        best = _greatest_total(spec, candidates)
        raise QuotaError(
            "the quotas cannot be met: "
            + "; ".join(short)
            + f". The greatest mixture.total that these sources can meet is {best}; "
            "lower it, add candidates, or change mixture.shares and mixture.weights."
            + (" A weight of 0 leaves out a source that the gates shut out." if out.keys() & wanted.keys() else "")
        )
    wanted |= _heldout(spec, candidates, barred)
    return [
        Quota(stratum=s, samples=n, candidates=candidates.get(s, 0), barred=out.get(s, 0))
        for s, n in wanted.items()
    ]


def _by_stratum(barred: Sequence[Barred]) -> Counter[Stratum]:
    counts: Counter[Stratum] = Counter()
    for row in barred:
        counts[Stratum.labelled(row.stratum)] += row.samples
    return counts


def _wanted(spec: MixtureSpec, total: int, candidates: Mapping[Stratum, int]) -> dict[Stratum, int]:
    by_modality = apportion(total, {m.value: share for m, share in spec.shares.items()})
    wanted: dict[Stratum, int] = {}
    for name, samples in by_modality.items():
        modality = Modality(name)
        weights = _weights(spec, candidates, Split.TRAIN, modality)
        if samples and not any(weights.values()):
            raise QuotaError(
                f"mixture.shares asks for {samples} {modality} samples, but no source with a weight above "
                f"zero has any: add one, or set the share of {modality} to 0."
            )
        for source, quota in apportion(samples, weights).items():
            wanted[Stratum(split=Split.TRAIN, modality=modality, source=source)] = quota
    return wanted


def _weights(
    spec: MixtureSpec, candidates: Mapping[Stratum, int], split: Split, modality: Modality
) -> dict[str, Fraction]:
    found = sorted(s.source for s in candidates if s.split is split and s.modality is modality)
    return {source: Fraction(spec.weights.get(source, 1)) for source in found}


def _heldout(spec: MixtureSpec, candidates: Mapping[Stratum, int], barred: Sequence[Barred]) -> dict[Stratum, int]:
    strata = sorted((s for s in candidates if s.split is Split.HELDOUT), key=lambda s: s.label)
    weights = {s.label: Fraction(spec.weights.get(s.source, 1)) for s in strata}
    if not spec.heldout_total:
        return {}
    if not any(weights.values()):
        raise QuotaError(
            f"mixture.heldout_total is {spec.heldout_total}, but no source has heldout candidates: "
            "give one some (`heldout:` of a shapes source), or set it to 0."
        )
    parts = apportion(spec.heldout_total, weights)
    wanted = {s: parts[s.label] for s in strata}
    if short := _shortfalls(wanted, candidates, barred):
        raise QuotaError("the heldout quotas cannot be met: " + "; ".join(short) + ". Lower mixture.heldout_total.")
    return wanted


def _shortfalls(
    wanted: Mapping[Stratum, int], candidates: Mapping[Stratum, int], barred: Sequence[Barred] = ()
) -> list[str]:
    return [
        f"{s.label} has {candidates.get(s, 0)} candidates for a quota of {n}, {n - candidates.get(s, 0)} short"
        + _bars(s, barred)
        for s, n in wanted.items()
        if n > candidates.get(s, 0)
    ]


def _bars(stratum: Stratum, barred: Sequence[Barred]) -> str:
    rows = [row for row in barred if row.stratum == stratum.label]
    if not rows:
        return ""
    told = [f"{row.gate} {row.value!r} {row.samples}" for row in sorted(rows, key=lambda row: -row.samples)]
    more = [f"{len(told) - TOLD} more"] if len(told) > TOLD else []
    return f" (the gates bar {sum(row.samples for row in rows)} more: {', '.join(told[:TOLD] + more)})"


def _greatest_total(spec: MixtureSpec, candidates: Mapping[Stratum, int]) -> int:
    """The largest total whose every quota can be filled.

    Quotas lie within two of their exact share (one rounding a level), which bounds the search from
    above; rounding is not monotone in the total, so the last stretch is tried one by one.
    """
    bound = spec.total
    for modality, share in spec.shares.items():
        weights = _weights(spec, candidates, Split.TRAIN, modality)
        whole = sum(weights.values(), Fraction(0))
        for source, weight in weights.items():
            if exact := share / 100 * weight / (whole or 1):
                stratum = Stratum(split=Split.TRAIN, modality=modality, source=source)
                bound = min(bound, floor((candidates[stratum] + 2) / exact))
    for total in range(bound, 0, -1):
        if not _shortfalls(_wanted(spec, total, candidates), candidates):
            return total
    return 0
