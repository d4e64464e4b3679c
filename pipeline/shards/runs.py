"""Samples that lie one behind the other, read together: what a request to a store costs is paid once for many."""

from collections.abc import Iterator
from itertools import chain

from pipeline.shards.buffers import buffer
from pipeline.shards.lookup import ShardError
from pipeline.shards.payloads import Payloads, Span, Tar, goes_on
from pipeline.shards.streamed import Located

RUN_BYTES = 8 * 2**20
"""Of a run of several samples, at most. Amazon advises ranges of 8 to 16 MB (S3 user guide, "Performance design
patterns for Amazon S3")."""


class Run:
    """Samples whose own members lie one behind the other in a tar; those of columns do, too, or are read apart."""

    def __init__(self, first: Located) -> None:
        self.samples: list[Located] = []
        self.size = 0
        """Of all reads, bytes."""
        self._stretches: dict[Tar, list[tuple[int, int]]] = {}
        self._add(first, self._growth(first))

    def take(self, sample: Located, most_bytes: int) -> bool:
        """Whether the sample goes on where the last one ends, all within `most_bytes`; then it is of the run."""
        if not (sample.parts and self._reaches(sample.tars[0], sample.parts[0].reads[0])):
            return False
        growth = self._growth(sample)
        if self.size + growth > most_bytes:
            return False
        self._add(sample, growth)
        return True

    def read(self) -> list[list[Payloads] | ShardError]:
        """What `Located.read` gives of each sample. For any thread."""
        if len(self.samples) == 1:
            return [self.samples[0].read()]
        fetched = {tar: _Fetched(tar, stretches) for tar, stretches in self._stretches.items()}
        return [sample.read([fetched[tar] for tar in sample.tars]) for sample in self.samples]

    def _add(self, sample: Located, growth: int) -> None:
        self.size += growth
        self.samples.append(sample)
        for tar, span in _reads(sample):
            stretches = self._stretches.setdefault(tar, [])
            start = stretches.pop()[0] if self._reaches(tar, span) else span.start
            stretches.append((start, span.exclusive_end))

    def _growth(self, sample: Located) -> int:
        """Bytes that it adds, with the gap before it. A sample's own reads never reach each other."""
        return sum(
            span.exclusive_end - (self._stretches[tar][-1][1] if self._reaches(tar, span) else span.start)
            for tar, span in _reads(sample)
        )

    def _reaches(self, tar: Tar, span: Span) -> bool:
        stretches = self._stretches.get(tar, ())
        return len(stretches) > 0 and goes_on(stretches[-1][1], span.start)


class _Fetched:
    """Stretches of a tar, each fetched when it is first asked for."""

    def __init__(self, tar: Tar, stretches: list[tuple[int, int]]) -> None:
        self._tar, self._stretches = tar, stretches
        self._found: dict[int, memoryview] = {}

    def read(self, start: int, size: int) -> memoryview:
        """As `Tar.read`; a copy, so that whoever keeps one sample keeps no other."""
        begin, end = next(each for each in self._stretches if each[0] <= start and start + size <= each[1])
        if begin not in self._found:
            self._found[begin] = self._tar.read(begin, end - begin)
        data = self._found[begin][start - begin : start - begin + size]
        view = buffer(len(data))
        view[:] = data
        return view

    def size(self) -> int:
        """As `Tar.size`."""
        return self._tar.size()


def _reads(sample: Located) -> Iterator[tuple[Tar, Span]]:
    return chain.from_iterable(
        ((tar, span) for span in part.reads) for tar, part in zip(sample.tars, sample.parts, strict=True)
    )
