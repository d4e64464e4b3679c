"""The contract of a source: list entries cheaply, then make each into a sample."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.storage.places import Place
from schemas.rejection import Rejection
from schemas.sample import Sample


@dataclass(frozen=True)
class Entry:
    """One candidate as its data set lists it, unread and unchecked."""

    key: str
    """The key its sample, or its rejection, will carry; unique within the recipe."""
    payload: Any
    """JSON-like data that `Source.sample` understands."""
    where: str = ""
    """File and place of the annotation, for a rejection."""
    stamp: str = ""
    """Tells its media from changed ones; empty where the source's fingerprint alone does."""


class Source(ABC):
    """A data set. Built with its spec alone, picklable; reads files only in its methods."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Text that changes when the entries or their media change: versions, sizes, digests."""

    @abstractmethod
    def media_root(self, folder: Place) -> Place:
        """Where this source's media lie; `folder` is where it may write media of its own."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Every candidate, in a fixed order. Cheap: no media are touched."""

    @abstractmethod
    def sample(self, entry: Entry, folder: Place) -> Sample | Rejection:
        """The entry as a sample; media that do not exist yet are made under `folder`, atomically."""
