"""Records in an order, of which as few as possible are in memory."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

from pipeline.runtime.contract import Keyed

Kind = TypeVar("Kind", bound=Keyed)


class Records(Sequence[Kind], Generic[Kind]):
    """Records in an order, each read when it is asked for. A slice of them reads nothing."""

    def __init__(self, keys: Sequence[str], read: Callable[[str], Kind]) -> None:
        self.keys = keys
        self._read = read

    @overload
    def __getitem__(self, at: int) -> Kind: ...

    @overload
    def __getitem__(self, at: slice) -> "Records[Kind]": ...

    def __getitem__(self, at: int | slice) -> "Kind | Records[Kind]":
        return Records(self.keys[at], self._read) if isinstance(at, slice) else self._read(self.keys[at])

    def __len__(self) -> int:
        return len(self.keys)


def keys_of(records: Sequence[Keyed]) -> list[str]:
    """Their keys; of `Records` none is read for it."""
    return list(records.keys) if isinstance(records, Records) else [record.key for record in records]
