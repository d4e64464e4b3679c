"""Shares and quotas: of the whole, of each prefix and of each tar.

Compared as integers and fractions: a float tolerance would hide the one sample that is off.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from typing import Literal

import numpy as np

from pipeline.audit.findings import Code
from pipeline.audit.recount import Recount
from schemas.ledger import Asked, Ledger
from schemas.sample import Modality, Split
from schemas.units import Unit

Defects = Iterator[tuple[Code, str, str] | tuple[Code, str, str, str]]
"""Code, message and shard, or these and a key."""


def check_quotas(recount: Recount, ledger: Ledger) -> Defects:
    """Each stratum holds exactly the samples asked of it, and the ledger says so.

    Where its unit is not samples, they are the first that together reach the target: over it by less than one.
    """
    asked = {row.stratum: row for row in ledger.asked}
    found, measured, largest = Counter[str](), Counter[str](), dict[str, int]()
    for finest, samples in recount.strata.items():
        stratum = finest if finest in asked else finest.rpartition("/")[0]
        found[stratum] += samples
        measured[stratum] += recount.measures[finest]
        largest[stratum] = max(recount.largest.get(finest, 0), largest.get(stratum, 0))
    for stratum in sorted(asked.keys() | found.keys()):
        row, samples = asked.get(stratum), found[stratum]
        if row is None:
            yield Code.QUOTA_MISSED, f"{stratum} holds {samples} samples, none were asked for", ""
            continue
        if not row.asked == samples == row.found:
            yield (
                Code.QUOTA_MISSED,
                f"{stratum} holds {samples} samples, {row.asked} were asked for, the ledger found {row.found}",
                "",
            )
        if ledger.unit is not Unit.SAMPLES:
            yield from _measured(row, measured[stratum], largest.get(stratum, 0), ledger.unit)


def _measured(row: Asked, measured: int, largest: int, unit: Unit) -> Defects:
    if row.measured != measured:
        message = f"{row.stratum} comes to {measured} {unit.field}, the ledger says {row.measured}"
        yield Code.QUOTA_MISSED, message, ""
    if not 0 <= measured - row.target < max(1, largest):
        yield (
            Code.QUOTA_MISSED,
            f"{row.stratum} comes to {measured} {unit.field}, {row.target} were asked for; it must reach that, "
            f"by less than its largest sample, which has {largest}",
            "",
        )


def check_shares(recount: Recount, ledger: Ledger) -> Defects:
    """The train split follows the recipe's shares by the largest-remainder rule, to the sample or the unit asked.

    Proven by the rule's own definition, so that any order of ties passes: each count is its exact
    share rounded down or up to the next integer, they sum to the total, and no share rounded up
    has a smaller remainder than one rounded down. In another unit than samples it is the targets that must: no
    set of whole samples comes to them exactly, and `check_quotas` says how near it must come.
    """
    if ledger.unit is Unit.SAMPLES:
        total, found = _asked(ledger, Split.TRAIN).total(), recount.modalities(Split.TRAIN)
    else:
        found = _asked(ledger, Split.TRAIN, "target")
        total = found.total()
    exact = {modality: total * ledger.shares.get(modality, Fraction(0)) / 100 for modality in Modality}
    extra = {modality: found[modality] - floor(share) for modality, share in exact.items()}
    remainder = {modality: share - floor(share) for modality, share in exact.items()}
    up = [remainder[m] for m, n in extra.items() if n == 1]
    down = [remainder[m] for m, n in extra.items() if n == 0]
    exactly = (
        found.total() == total
        and all(n in (0, 1) for n in extra.values())
        and (not up or not down or min(up) >= max(down))
    )
    if not exactly:
        shown = ", ".join(f"{m} {found[m]} (exactly {float(share):.3f})" for m, share in exact.items())
        yield Code.SHARE_INEXACT, f"of {total} train {ledger.unit.field} asked for: {shown}", ""


def check_prefixes(recount: Recount, ledger: Ledger) -> Defects:
    """A run that stops anywhere has seen the mixture's shares: every prefix near them (`prefix_bound`)."""
    for label, (worst, length) in prefix_deviations(recount, ledger).items():
        bound = ledger.prefix_bound(Split(label.partition("/")[0]))
        if worst >= bound:
            off = f"{float(worst):.3f} samples off its share after {length} samples"
            yield Code.PREFIX_OFF_SHARE, f"{label} is {off}, must stay under {float(bound):g}", ""


def prefix_deviations(recount: Recount, ledger: Ledger) -> dict[str, tuple[Fraction, int]]:
    """By `split/modality`: the greatest |count - n * asked / total| over all prefixes, and its n.

    In integers throughout: counts to 10**9 keep the products within int64.
    """
    deviations = {}
    for split in Split:
        asked, order = _asked(ledger, split), np.frombuffer(recount.order.get(split, b""), np.uint8)
        total, lengths = asked.total(), np.arange(1, len(order) + 1, dtype=np.int64)
        for index, modality in enumerate(Modality):
            if not len(order) or not total:
                continue
            seen = np.cumsum(order == index, dtype=np.int64)
            off = np.abs(seen * total - lengths * asked[modality])
            at = int(off.argmax())
            deviations[f"{split}/{modality}"] = (Fraction(int(off[at]), total), at + 1)
    return deviations


def check_shard_shares(recount: Recount, ledger: Ledger) -> Defects:
    """A worker that reads one tar alone sees the shares too: within twice the bound of a prefix."""
    for shard in recount.shards:
        split = Split(shard.name.removeprefix("shards/").partition("-")[0])
        bound = 2 * ledger.prefix_bound(split)
        asked, total, samples = _asked(ledger, split), _asked(ledger, split).total(), shard.count["samples"]
        for modality in Modality:
            found = shard.modalities[modality]
            if abs(found * total - samples * asked[modality]) >= bound * total > 0:
                exact = float(Fraction(samples * asked[modality], total))
                yield Code.SHARD_OFF_SHARE, f"{found} {modality} of {samples} samples, for {exact:.3f}", shard.name


def _asked(ledger: Ledger, split: Split, field: Literal["asked", "target"] = "asked") -> Counter[Modality]:
    """Samples asked for of a split, or the targets, by modality."""
    asked: Counter[Modality] = Counter()
    for row in ledger.asked:
        name, modality, *_ = row.stratum.split("/")
        if name == split:
            asked[Modality(modality)] += getattr(row, field)
    return asked
