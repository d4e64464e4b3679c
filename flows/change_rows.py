"""What a ledger's history tells, in words and rows."""

from collections.abc import Sequence

from schemas.ledger import Change

CHANGE_COLUMNS = [
    "before", "#kept", "#moved", "#added", "#removed",
    "#tars kept", "#rewritten", "#new", "#gone", "fresh order",
]  # fmt: skip


def change_rows(history: Sequence[Change]) -> list[tuple[object, ...]]:
    """One row a change, oldest first, under CHANGE_COLUMNS."""
    return [
        (
            change.root_sha256[:12], change.kept, change.moved, change.added, change.removed,
            change.shards_kept, change.shards_rewritten, change.shards_new, change.shards_gone,
            ", ".join(change.reordered),
        )
        for change in history
    ]  # fmt: skip


def change_words(change: Change) -> str:
    """One change in a line."""
    fresh = f"; in a fresh order: {', '.join(change.reordered)}" if change.reordered else ""
    return (
        f"{change.kept} samples kept ({change.moved} moved), {change.added} added, {change.removed} removed; "
        f"of the shards {change.shards_kept} kept, {change.shards_rewritten} rewritten, {change.shards_new} new, "
        f"{change.shards_gone} gone{fresh}"
    )
