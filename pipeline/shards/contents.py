"""The files of a mixture, told by its ledger: a store's list may be late, or show what a killed run left."""

from pipeline.shards.index import column_index
from pipeline.shards.sidecars import INDEX_END, energon_names, wids_name
from schemas.ledger import CARD, INDEX, LEDGER, TOKENIZER, Column, Ledger


def tar_names(ledger: Ledger) -> list[str]:
    """Of shards and columns, each with its `.idx`."""
    tars = [entry.name for entry in ledger.shards]
    return _with_index(tars) + [name for column in ledger.columns for name in _with_index(_tars(column))]


def column_names(column: Column) -> list[str]:
    """Of one column: tars with their `.idx`, and its index."""
    return [*_with_index(_tars(column)), column_index(column.encoder)]


def names_of(ledger: Ledger) -> list[str]:
    """All files of the mixture, by their paths in its folder, but for rejections and report, which a build adds."""
    splits = dict.fromkeys(entry.split for entry in ledger.shards)
    return [
        *tar_names(ledger),
        *(column_index(column.encoder) for column in ledger.columns),
        INDEX,
        *([TOKENIZER] if ledger.tokenizer_sha256 else []),
        *(wids_name(split) for split in splits),
        *energon_names(),
        CARD,
        LEDGER,
    ]


def _tars(column: Column) -> list[str]:
    return [tar.name for tar in column.shards]


def _with_index(tars: list[str]) -> list[str]:
    return [f"{tar}{end}" for tar in tars for end in ("", INDEX_END)]
