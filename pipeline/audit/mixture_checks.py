"""What must hold of the mixture as a whole. One check a function; its docstring gives the reason.

A check yields (code, message, shard), or these and a key, for each defect.
"""

from collections.abc import Callable
from itertools import pairwise

from pipeline.audit.findings import Code
from pipeline.audit.recount import TABLES, Recount, TarFound
from pipeline.audit.repeats import repeats
from pipeline.audit.share_checks import Defects, check_prefixes, check_quotas, check_shard_shares, check_shares
from schemas.base import digest
from schemas.ledger import ColumnShard, Count, Ledger, ShardEntry
from schemas.sample import Split

Check = Callable[[Recount, Ledger], Defects]

FLOWS = ["ingest", "plan", "conversations", "decode", "features"]
"""Stages that a candidate goes through on its way into the shards."""


def check_flows(_: Recount, ledger: Ledger) -> Defects:
    """Every input leaves a stage once (law 1): a sum that does not close is a sample lost in silence."""
    for flow in ledger.flows:
        out = flow.outputs + flow.rejected + flow.filtered
        if flow.inputs != out:
            yield Code.FLOW_LEAKS, f"{flow.stage}: {flow.inputs} came in, {out} went out ({flow})", ""
    stages = [flow.stage for flow in ledger.flows]
    if stages != FLOWS:
        yield Code.FLOW_LEAKS, f"accounts are of stages {stages}, must be of {FLOWS}", ""
    for before, after in pairwise(ledger.flows):
        if before.outputs != after.inputs:
            yield Code.FLOW_LEAKS, f"{before.stage} gave {before.outputs}, {after.stage} took {after.inputs}", ""
    packed, kept = _packed(ledger), sum(flow.kept for flow in ledger.flows)
    if ledger.flows and ledger.flows[-1].outputs + kept + ledger.repeated != packed:
        gave = f"{stages[-1]} gave {ledger.flows[-1].outputs} samples, {kept} were kept"
        yield Code.FLOW_LEAKS, f"{gave}, {ledger.repeated} are of later passes; the shards hold {packed}", ""
    barred, filtered = sum(flow.barred for flow in ledger.flows), sum(flow.filtered for flow in ledger.flows)
    told = sum(row.samples for row in ledger.barred)
    if barred != told or barred + kept > filtered:
        seen = f"gates barred {barred} of {filtered} filtered, of which {kept} were kept"
        yield Code.FLOW_LEAKS, f"{seen}; the reasons of the barred sum to {told}", ""
    rejected, reasons = sum(flow.rejected for flow in ledger.flows), sum(ledger.rejected.values())
    if rejected != reasons:
        yield Code.FLOW_LEAKS, f"stages rejected {rejected} samples, but the reasons sum to {reasons}", ""


def check_history(_: Recount, ledger: Ledger) -> Defects:
    """What a ledger tells of its last change must have led to this mixture, or its looser bounds are not earned."""
    kept = sum(flow.kept for flow in ledger.flows)
    if not ledger.history:
        if kept:
            yield Code.HISTORY_BELIED, f"{kept} samples were kept, but of no mixture before", ""
        return
    last, shards = ledger.history[-1], len(ledger.shards)
    # Samples of later passes are kept, or made anew of what the first one gave, without a stage that counts them.
    most = _packed(ledger) if ledger.repeated else kept
    if not kept <= last.kept <= most or last.kept + last.added != _packed(ledger):
        told = f"{last.kept} samples kept and {last.added} added"
        yield Code.HISTORY_BELIED, f"{told}, the flows kept {kept} of {_packed(ledger)} in the shards", ""
    if last.shards_kept + last.shards_rewritten + last.shards_new != shards or last.moved > last.kept:
        yield Code.HISTORY_BELIED, f"{last} does not lead to {shards} shards", ""


def check_shards(recount: Recount, ledger: Ledger) -> Defects:
    """The tars must be the ones the ledger was written for, byte for byte."""
    yield from _compared(recount, ledger, quick=False)


def check_shard_sizes(recount: Recount, ledger: Ledger) -> Defects:
    """The tars must be those that the ledger lists, each of its size: what can be told without their digests."""
    yield from _compared(recount, ledger, quick=True)


def _compared(recount: Recount, ledger: Ledger, quick: bool) -> Defects:
    columns = [tar for tars in recount.columns.values() for tar in tars]
    found: dict[str, TarFound] = {tar.name: tar for tar in (*recount.shards, *columns)}
    listed: list[ShardEntry | ColumnShard] = [*ledger.shards]
    listed += [tar for column in ledger.columns for tar in column.shards]
    for entry in listed:
        shard = found.pop(entry.name, None)
        if shard is None:
            yield Code.SHARD_MISSING, "the ledger lists it, the folder does not hold it", entry.name
        elif shard.size_bytes != entry.size_bytes or not (quick or shard.sha256 == entry.sha256):
            yield (
                Code.SHARD_CHANGED,
                f"sha256 {shard.sha256 or '(not read)'} of {shard.size_bytes} bytes, the ledger has {entry.sha256} "
                f"of {entry.size_bytes}",
                entry.name,
            )
    for name in found:
        yield Code.SHARD_UNKNOWN, "the folder holds it, the ledger does not list it", name


def check_root(recount: Recount, ledger: Ledger) -> Defects:
    """One number names the mixture; it must be the digest of these tars in this order."""
    columns = [tar.sha256 for column in ledger.columns for tar in column.shards]
    listed = digest([entry.sha256 for entry in ledger.shards] + columns)
    if not recount.root_sha256() == listed == ledger.root_sha256:
        yield (
            Code.ROOT_CHANGED,
            f"root of the tars is {recount.root_sha256()}, of the ledger's list {listed}, "
            f"and the ledger says {ledger.root_sha256}",
            "",
        )


def check_counts(recount: Recount, ledger: Ledger) -> Defects:
    """The ledger's account must be what the tars hold, by every label and for every tar."""
    for table in TABLES:
        found, told = recount.counts(table), getattr(ledger, table)
        for label in sorted(found.keys() | told.keys()):
            if found.get(label) != told.get(label):
                yield Code.COUNTS_DIFFER, f"{table} {label}: {_difference(found.get(label), told.get(label))}", ""
    told_shards = {entry.name: entry.count for entry in ledger.shards}
    for shard in recount.shards:
        if shard.name in told_shards and Count(**shard.count) != told_shards[shard.name]:
            difference = _difference(Count(**shard.count), told_shards[shard.name])
            yield Code.COUNTS_DIFFER, difference, shard.name
    if recount.member_bytes != ledger.member_bytes:
        told, seen = ledger.member_bytes, dict(recount.member_bytes)
        yield Code.COUNTS_DIFFER, f"bytes by member are {seen}, the ledger says {told}", ""
    told_loss = {encoder: loss.model_dump() for encoder, loss in ledger.storage_loss.items()}
    if not _are_close(recount.storage_loss(), told_loss):
        yield Code.COUNTS_DIFFER, f"stored features lost {recount.storage_loss()}, the ledger says {told_loss}", ""
    if recount.origins() != ledger.origins:
        yield Code.COUNTS_DIFFER, f"origins are {recount.origins()}, the ledger says {ledger.origins}", ""


def check_heldout(recount: Recount, _: Ledger) -> Defects:
    """A score on media that were trained on is worth nothing; equal bytes count, whatever the name."""
    train, heldout = recount.media.get(Split.TRAIN, {}), recount.media.get(Split.HELDOUT, {})
    for sha256 in sorted(train.keys() & heldout.keys()):
        yield (
            Code.HELDOUT_LEAKED,
            f"medium {sha256} is in train ({train[sha256]}) and heldout ({heldout[sha256]})",
            "",
        )
    if Split.HELDOUT in recount.order:
        for key, path in recount.unnamed.items():
            yield Code.MEDIUM_UNNAMED, f"{key}: no digest of {path}, so no leak can be ruled out", ""


def check_repeats(recount: Recount, _: Ledger) -> Defects:
    """A sample seen twice weighs twice; only a declared later pass over its source may repeat what went before."""
    yield from repeats(recount.contents, recount.keys)


def _packed(ledger: Ledger) -> int:
    """Samples in the shards, as the ledger tells."""
    return sum(count.samples for count in ledger.total.values())


def _are_close(found: dict[str, dict[str, float]], told: dict[str, dict[str, float]]) -> bool:
    """To the sixth digit, which the ledger rounds to."""
    return found.keys() == told.keys() and all(
        abs(value - told[encoder][name]) <= 1e-6 for encoder, loss in found.items() for name, value in loss.items()
    )


def _difference(found: Count | None, told: Count | None) -> str:
    if found is None or told is None:
        return f"the tars hold {found}, the ledger says {told}"
    fields = [
        f"{field} {getattr(found, field)}, not {getattr(told, field)}"
        for field in Count.model_fields
        if getattr(found, field) != getattr(told, field)
    ]
    return f"the tars hold {', '.join(fields)} as the ledger says"


MIXTURE_CHECKS: tuple[Check, ...] = (
    check_flows,
    check_history,
    check_shards,
    check_root,
    check_counts,
    check_quotas,
    check_shares,
    check_prefixes,
    check_shard_shares,
    check_heldout,
    check_repeats,
)
_INSTEAD: dict[Check, tuple[Check, ...]] = {check_shards: (check_shard_sizes,), check_root: ()}
QUICK_MIXTURE_CHECKS: tuple[Check, ...] = tuple(
    instead for check in MIXTURE_CHECKS for instead in _INSTEAD.get(check, (check,))
)
"""Without the digests of the tars."""
