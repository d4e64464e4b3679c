"""Which candidates are the same as others: across the splits by one medium, within a split as a whole.

A medium is its bytes: two files of equal digest are one, whatever their names; one that was never probed has no
digest and counts by its path. Of annotations the words and times count, not the labels beside them.
"""

import hashlib
from collections.abc import Iterable, Sequence

from schemas.sample import MediaRef, Sample

LABELS = {"topic", "evidence"}
"""Fields of an annotation that nothing is trained on."""


class Heldout:
    """What heldout candidates are made of.

    All of them count: which of them will be chosen, or fail, must not change what is trained on.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._media: dict[str, str] = {}
        self._texts: dict[bytes, str] = {}
        for sample in samples:
            self._texts.setdefault(_annotations(sample), sample.source)
            for medium in sample.media:
                self._media.setdefault(_identity(medium), sample.source)

    def shares(self, sample: Sample) -> str | None:
        """The source of the first of them that has a medium of the sample, or its annotations where it has none."""
        if not sample.media:
            return self._texts.get(_annotations(sample))
        return next(filter(None, (self._media.get(_identity(medium)) for medium in sample.media)), None)


class Duplicates:
    """Samples as they were met. So an appended source displaces nobody. About 150 bytes a sample are held."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def first(self, sample: Sample) -> str | None:
        """The source of the first of its split that it is equal to but for its key; None if it is that one.

        Equal are media with their spans, in their order, and annotations.
        """
        whole = _whole(sample)
        found = self._first.get(whole)
        self._first.setdefault(whole, sample.source)
        return found


def _identity(medium: MediaRef) -> str:
    return medium.sha256 or f"path {medium.path}"


def _whole(sample: Sample) -> bytes:
    spans = [
        (m.kind, _identity(m), m.start_ns, m.exclusive_end_ns or m.duration_ns)  # 0 is the end of the file
        for m in sample.media
    ]
    return _digest([sample.split, repr(spans)], _annotations(sample))


def _annotations(sample: Sample) -> bytes:
    return _digest([each.model_dump_json(exclude=LABELS) for each in sample.annotations])


def _digest(lines: Sequence[str], more: bytes = b"") -> bytes:
    """16 bytes; lines hold no line feed of their own, for JSON and `repr` escape it."""
    return hashlib.blake2b("\n".join(lines).encode() + b"\n" + more, digest_size=16).digest()
