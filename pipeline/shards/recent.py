"""A bounded store of what was made last: windows of an order, groups of an index, open tars."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values used last, `limit` of them, or all where it is None. Travels to another process empty.

    Without a limit it is for all threads; with one, for one thread.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._values: dict[K, V] = {}

    def get(self, key: K, make: Callable[[K], V]) -> V:
        """The value of `key`, made if it is not at hand."""
        if key in self._values:
            if self._limit is not None:
                self._values[key] = self._values.pop(key)  # the last of all to go
            return self._values[key]
        value = self._values[key] = make(key)
        if self._limit is not None and len(self._values) > self._limit:
            del self._values[next(iter(self._values))]
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return Recent, (self._limit,)
