"""Exact quotas: shares of a total, nested by modality, then source, then category, as integers.

Each level is apportioned by the largest-remainder rule (`pipeline.plan.apportion`), so the parts of every level sum
to the whole above them. Samples are counted, or what they hold: turns, tokens, nanoseconds, bytes.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction

from pipeline.plan.apportion import apportion, shared
from schemas.mixture import MixtureSpec
from schemas.plan import Barred, Quota, Stratum
from schemas.sample import Modality, Split
from schemas.units import Unit

TOLD = 3
"""Reasons for which candidates were barred that a message names, the commonest first."""

SLACK = 3
"""A quota lies within so many of its exact share: one rounding a level."""

Amounts = Mapping[Stratum, int]
"""By stratum, in the unit of the mixture; seconds in nanoseconds."""


class QuotaError(ValueError):
    """A quota that the candidates cannot fill. The message says who falls short and what could be met."""


def quotas(
    spec: MixtureSpec,
    candidates: Mapping[Stratum, int],
    barred: Sequence[Barred] = (),
    supply: Amounts | None = None,
) -> list[Quota]:
    """The quota of every stratum that has one, train before heldout, in the order of the shares.

    Args:
        spec: What is asked.
        candidates: Samples that ingest found and the gates let in; later passes of a repeated source count.
        barred: What the gates shut out. A source that is barred whole keeps its quota, and falls short: its share
            would otherwise go to others in silence.
        supply: What the candidates come to in the mixture's unit, where that is known before they are worked on;
            without it, and for another unit than samples, a source that falls short is found when it has run out.

    Raises QuotaError if any stratum falls short of its quota.
    """
    out = _by_stratum(barred)
    candidates = {**dict.fromkeys(out, 0), **candidates}
    by_samples = spec.unit is Unit.SAMPLES
    have = candidates if by_samples else supply and {**dict.fromkeys(candidates, 0), **supply}
    wanted = _wanted(spec, spec.total, candidates)
    if have is not None and (short := _shortfalls(wanted, have, spec.unit, barred)):
        raise QuotaError(
            "the quotas cannot be met: "
            + "; ".join(short)
            + f". The greatest mixture.total that these sources can meet is {_greatest_total(spec, have)}; "
            "lower it, add candidates, allow mixture.repeats, or change mixture.shares and mixture.weights."
            + (" A weight of 0 leaves out a source that the gates shut out." if out.keys() & wanted.keys() else "")
        )
    heldout = _heldout(spec, candidates, barred)
    return [
        *(_quota(s, n, candidates, out, spec.unit) for s, n in wanted.items()),
        *(_quota(s, n, candidates, out, Unit.SAMPLES) for s, n in heldout.items()),
    ]


def told(amount: int, unit: Unit) -> str:
    """An amount for a person: `812.5 seconds`, `40 samples`."""
    return f"{amount / unit.whole:,.15g} {unit.replace('_', ' ')}"


def _quota(
    stratum: Stratum, amount: int, candidates: Mapping[Stratum, int], out: Mapping[Stratum, int], unit: Unit
) -> Quota:
    samples, target = (amount, 0) if unit is Unit.SAMPLES else (0, amount)
    found, barred = candidates.get(stratum, 0), out.get(stratum, 0)
    return Quota(stratum=stratum, samples=samples, target=target, unit=unit, candidates=found, barred=barred)


def _by_stratum(barred: Sequence[Barred]) -> Counter[Stratum]:
    counts: Counter[Stratum] = Counter()
    for row in barred:
        counts[Stratum.labelled(row.stratum)] += row.samples
    return counts


def _wanted(spec: MixtureSpec, total: int, strata: Collection[Stratum]) -> dict[Stratum, int]:
    whole = total * spec.unit.whole
    wanted: dict[Stratum, int] = {}
    for name, amount in apportion(whole, {m.value: share for m, share in spec.shares.items()}).items():
        modality = Modality(name)
        for source, part in _of_sources(spec, modality, amount, strata).items():
            wanted |= _of_categories(spec, modality, source, part)
    return wanted


def _of_sources(spec: MixtureSpec, modality: Modality, amount: int, strata: Collection[Stratum]) -> dict[str, int]:
    weights = _weights(spec, modality, strata)
    if amount and not any(weights.values()):
        raise QuotaError(
            f"mixture.shares asks for {told(amount, spec.unit)} of {modality}, but no source with a weight above "
            f"zero has any: add one, or set the share of {modality} to 0."
        )
    try:
        return apportion(amount, weights, *_bounds(spec, weights))
    except ValueError as error:
        raise QuotaError(
            f"mixture.floors and mixture.caps do not fit {told(amount, spec.unit)} of {modality}: {error}. Change "
            f"them, or mixture.total."
        ) from None


def _weights(spec: MixtureSpec, modality: Modality, strata: Collection[Stratum]) -> dict[str, Fraction]:
    sources = {s.source for s in strata if s.split is Split.TRAIN and s.modality is modality}
    return {source: Fraction(spec.weights.get(source, 1)) for source in sorted(sources)}


def _bounds(spec: MixtureSpec, sources: Iterable[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Floors and caps of these sources."""
    sources = list(sources)
    floors, caps = (
        {name: int(bounds[name] * spec.unit.whole) for name in sources if name in bounds}
        for bounds in (spec.floors, spec.caps)
    )
    return floors, caps


def _of_categories(spec: MixtureSpec, modality: Modality, source: str, amount: int) -> dict[Stratum, int]:
    stratum = Stratum(split=Split.TRAIN, modality=modality, source=source)
    if source not in spec.categories:
        return {stratum: amount}
    parts = apportion(amount, {category.value: weight for category, weight in spec.categories[source].items()})
    return {stratum.of_category(category): part for category, part in parts.items()}


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
    if short := _shortfalls(wanted, candidates, Unit.SAMPLES, barred):
        raise QuotaError("the heldout quotas cannot be met: " + "; ".join(short) + ". Lower mixture.heldout_total.")
    return wanted


def _shortfalls(wanted: Amounts, have: Amounts, unit: Unit, barred: Sequence[Barred] = ()) -> list[str]:
    return [
        f"{s.label} has {_supply(have.get(s, 0), unit)} for a quota of {_bare(n, unit)}, "
        f"{_bare(n - have.get(s, 0), unit)} short{_bars(s, barred)}"
        for s, n in wanted.items()
        if n > have.get(s, 0)
    ]


def _supply(amount: int, unit: Unit) -> str:
    return f"{amount} candidates" if unit is Unit.SAMPLES else f"candidates of {told(amount, unit)}"


def _bare(amount: int, unit: Unit) -> str:
    return str(amount) if unit is Unit.SAMPLES else told(amount, unit)


def _bars(stratum: Stratum, barred: Sequence[Barred]) -> str:
    rows = [row for row in barred if row.stratum == stratum.label]
    if not rows:
        return ""
    reasons = [f"{row.gate} {row.value!r} {row.samples}" for row in sorted(rows, key=lambda row: -row.samples)]
    more = [f"{len(reasons) - TOLD} more"] if len(reasons) > TOLD else []
    return f" (the gates bar {sum(row.samples for row in rows)} more: {', '.join(reasons[:TOLD] + more)})"


def _greatest_total(spec: MixtureSpec, have: Amounts) -> int:
    """The largest total whose every quota can be filled; 0 where none can.

    Exact shares never fall as the total grows, which bounds the search from above; rounding is not monotone in
    the total, so the last stretch is tried one by one.
    """
    low, high = 0, spec.total
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _nearly_met(spec, middle, have) else (low, middle - 1)
    for total in range(low, 0, -1):
        try:
            if not _shortfalls(_wanted(spec, total, have.keys()), have, spec.unit):
                return total
        except QuotaError:
            if _is_below_floors(spec, total, have):
                break  # as is every smaller one
    return 0


def _nearly_met(spec: MixtureSpec, total: int, have: Amounts) -> bool:
    """Whether every exact share is met but for rounding; too small a total for the floors counts as met."""
    for modality, share in spec.shares.items():
        amount = total * spec.unit.whole * share / 100
        weights = _weights(spec, modality, have.keys())
        floors, caps = _bounds(spec, weights)
        if not weights or sum(floors.values()) > amount:
            continue
        capped = {name: cap + SLACK for name, cap in caps.items()}
        try:
            exact = shared(int(amount), weights, floors, capped)
        except ValueError:
            return False
        if any(part > _room(spec, modality, source, have) for source, part in exact.items()):
            return False
    return True


def _room(spec: MixtureSpec, modality: Modality, source: str, have: Amounts) -> Fraction:
    """What a source can be asked for at most, rounding allowed for, so that no category falls short."""
    stratum = Stratum(split=Split.TRAIN, modality=modality, source=source)
    if source not in spec.categories:
        return Fraction(have.get(stratum, 0) + SLACK)
    weights = spec.categories[source]
    whole = sum(weights.values(), Fraction(0))
    return min(
        (have.get(stratum.of_category(category), 0) + SLACK) * whole / weight
        for category, weight in weights.items()
        if weight
    )


def _is_below_floors(spec: MixtureSpec, total: int, have: Amounts) -> bool:
    for modality, share in spec.shares.items():
        floors, _ = _bounds(spec, _weights(spec, modality, have.keys()))
        if sum(floors.values()) >= total * spec.unit.whole * share / 100 + 1:
            return True
    return False
