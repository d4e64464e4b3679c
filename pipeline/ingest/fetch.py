"""The first stage: an entry of a source becomes a `Sample`, its media in place."""

from collections.abc import Sequence
from typing import ClassVar

from pipeline.ingest.source import Entry, Source
from pipeline.runtime.contract import Stage
from pipeline.storage.places import Place
from schemas.rejection import Rejection
from schemas.sample import Sample


class Fetch(Stage[Entry, Sample]):
    """Asks the source for each entry's sample; `folder` is where it may put media of its own."""

    name: ClassVar[str] = "ingest"
    version: ClassVar[int] = 1

    def __init__(self, source: Source, folder: Place) -> None:
        self._source = source
        self._folder = folder

    def process(self, batch: Sequence[Entry]) -> list[Sample | Rejection]:
        """One sample or rejection an entry."""
        return [self._source.sample(entry, self._folder) for entry in batch]
