"""Our stream, for shards_readers.py."""

from collections.abc import Iterator
from typing import Any

from shards_readers import ENCODERS, Batch, Reader

from pipeline.shards.loader import MixtureLoader
from pipeline.shards.stream import MixtureStream, StreamBatch
from pipeline.storage.places import place


def _plain(batch: StreamBatch) -> Batch:
    return [{"key": s.key, "json": s.json, **s.features} for s in batch.samples]


class Ours(Reader):
    """`MixtureStream`, and with workers `MixtureLoader`."""

    def batches(self, job: dict[str, Any]) -> Iterator[Batch]:
        """One epoch."""
        yield from self._of(_stream(job), job)

    def state(self, job: dict[str, Any], done: int) -> Any:
        """What it would save."""
        return {**_stream(job).state_dict(), "position": done}

    def resumed(self, job: dict[str, Any], state: Any) -> Iterator[Batch]:
        """The rest of the epoch."""
        stream = _stream(job)
        stream.load_state_dict(state)
        yield from self._of(stream, job)

    def _of(self, stream: MixtureStream, job: dict[str, Any]) -> Iterator[Batch]:
        yield from map(_plain, MixtureLoader(stream, workers=job["workers"]) if job["workers"] else stream)


def _stream(job: dict[str, Any]) -> MixtureStream:
    return MixtureStream(
        place(job["place"]), "train", ENCODERS, global_batch=job["batch"], epochs=1, shuffle=job["shuffle"]
    )


READER = Ours()
