"""Which candidates are the same as others: across the splits by one medium, within a split as a whole.

A medium is its bytes: two files of equal digest are one, whatever their names; one that was never probed has no
digest and counts by its path. Of annotations the words and times count, not the labels beside them.
"""

import hashlib
from collections.abc import Iterator, Sequence, Set
from typing import Literal

from schemas.sample import MediaRef, Sample, Split

LABELS = {"topic", "evidence"}
"""Fields of an annotation that nothing is trained on."""


def shared_with_heldout(
    left_out: Set[str], samples: Sequence[Sample]
) -> Iterator[tuple[Literal["heldout"], str] | None]:
    """For each sample of the train split, the source of the first heldout candidate that it shares a medium with.

    A sample without media shares its annotations instead. All heldout candidates count, but those of the sources
    `left_out`: which of them will be chosen, or fail, must not change what is trained on.
    """
    heldout = [s for s in samples if s.split is Split.HELDOUT and s.source not in left_out]
    media, texts = dict[str, str](), dict[bytes, str]()
    for sample in heldout:
        texts.setdefault(_annotations(sample), sample.source)
        for medium in sample.media:
            media.setdefault(_identity(medium), sample.source)
    for sample in samples:
        source = None
        if sample.split is not Split.HELDOUT:
            found = (media.get(_identity(medium)) for medium in sample.media)
            source = next(filter(None, found), None) if sample.media else texts.get(_annotations(sample))
        yield ("heldout", source) if source else None


def duplicates(left_out: Set[str], samples: Sequence[Sample]) -> Iterator[tuple[Literal["duplicate"], str] | None]:
    """For each sample that an earlier one of its split is equal to but for its key, the source of the first such.

    Equal are media with their spans, in their order, and annotations. So an appended source displaces nobody.
    Samples of the sources `left_out` neither bar nor are barred. About 150 bytes a sample are held.
    """
    first: dict[bytes, str] = {}
    for sample in samples:
        if sample.source in left_out:
            yield None
            continue
        whole = _whole(sample)
        yield ("duplicate", first[whole]) if whole in first else None
        first.setdefault(whole, sample.source)


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
