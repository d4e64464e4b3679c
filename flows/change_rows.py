"""What a ledger's history tells, in words and rows."""

from collections.abc import Sequence

from schemas.ledger import Change

CHANGE_COLUMNS = ["before", "#kept", "#added", "#removed", "#moved", "shards"]


def change_rows(history: Sequence[Change]) -> list[tuple[object, ...]]:
    """One row a change, oldest first, under CHANGE_COLUMNS."""
    return [
        (change.root_sha256[:12], change.kept, change.added, change.removed, change.moved, _shards(change))
        for change in history
    ]


def change_words(change: Change) -> str:
    """One change in a line."""
    moved = f", {change.moved} moved" if change.moved else ""
    samples = f"{change.kept} samples kept{moved}, {change.added} added, {change.removed} removed"
    return f"{samples}; shards: {_shards(change)}"


def _shards(change: Change) -> str:
    counts = {
        "kept": change.shards_kept,
        "rewritten": change.shards_rewritten,
        "new": change.shards_new,
        "gone": change.shards_gone,
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return told + (f" (fresh order: {', '.join(change.reordered)})" if change.reordered else "")
