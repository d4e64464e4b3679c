"""Samples of equal content: none may lie in a mixture twice, but as a declared later pass over its source.

One row of 36 bytes a sample, sorted when all tars are read: 4 million samples take 144 MB and seconds.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.findings import KEPT_A_CODE, Code
from schemas.conversation import Role
from schemas.ledger import ShardSample
from schemas.sample import Split

ROW = np.dtype([("content", ">u8", 2), ("origin", ">u8", 2), ("epoch", ">u4")])
"""Digests of the content and of the key without the ending of its epoch, 16 bytes each, and the epoch."""
_DIGITS = 9
"""Of an epoch at most, so that it has room in a row."""
_NAME = slice(16, None)
"""Of a row's bytes: origin and epoch, which only one key has."""

Rows = NDArray[np.void]
Places = NDArray[np.int64]
Repeat = tuple[Code, str, str, str]


def row(sample: ShardSample) -> bytes:
    """The sample's row, as bytes of `ROW`."""
    origin, epoch = _pass_of(sample.key)
    if epoch != sample.epoch:  # no declared pass: its content must be its own, whatever the key says
        origin, epoch = sample.key, 0
    return _content(sample) + _short(origin) + epoch.to_bytes(4, "big")


def is_declared(sample: ShardSample) -> bool:
    """Whether the key of a sample of a later epoch ends as it must."""
    return not sample.epoch or _pass_of(sample.key)[1] == sample.epoch


def repeats(contents: Mapping[Split, bytes | bytearray], keys: Mapping[str, str]) -> Iterator[Repeat]:
    """Code, message, shard and key of each sample that repeats another, and of each pass that lacks an earlier one.

    Args:
        contents: Rows by split, in the order of the tars.
        keys: Shard by key. Read only where something is found.
    """
    parts = [contents.get(split, b"") for split in Split]
    rows = np.frombuffer(b"".join(parts), ROW)
    splits = np.repeat(np.arange(len(parts), dtype=np.int8), [len(part) // ROW.itemsize for part in parts])
    (again, firsts), (leaked, theirs), lone = *_twice(rows, splits), _unfounded(rows, splits)
    names = _Names(rows, (again, firsts, leaked, theirs, lone), keys)
    for code, places, of in ((Code.DUPLICATE, again, firsts), (Code.DUPLICATE_ACROSS_SPLITS, leaked, theirs)):
        for place, first in zip(places, of, strict=True):
            (key, shard), (other, where) = names.at(place), names.at(first)
            yield code, f"media and turns are those of {other} in {where}", shard, key
    for place in lone:
        key, shard = names.at(place)
        epoch = rows["epoch"][place]
        message = f"pass {epoch} over its source: its split has not every earlier one, of equal media and turns"
        yield Code.EPOCH_WITHOUT_ORIGINAL, message, shard, key


def _twice(rows: Rows, splits: NDArray[np.int8]) -> tuple[tuple[Places, Places], tuple[Places, Places]]:
    """First passes whose content an earlier one has, and that one: within a split, and across splits."""
    places = np.flatnonzero(rows["epoch"] == 0)
    content = rows["content"][places]
    # Stable, so that equal contents stay in the order of the tars: split by split.
    places = places[np.lexsort((content[:, 1], content[:, 0]))]
    content, split = rows["content"][places], splits[places]
    equal = (content[1:] == content[:-1]).all(axis=1)
    of_all, of_split = (places[_starts(len(places), same)] for same in (equal, equal & (split[1:] == split[:-1])))
    within = of_split != places
    across = (of_all != places) & ~within
    return _told(rows, places[within], of_split[within]), _told(rows, places[across], of_all[across])


def _told(rows: Rows, places: Places, firsts: Places) -> tuple[Places, Places]:
    """In the order of the tars, without those that have the very key of the first: a key met twice says more."""
    others = (rows["origin"][places] != rows["origin"][firsts]).any(axis=1)
    places, firsts = places[others], firsts[others]
    order = np.argsort(places)
    return places[order], firsts[order]


def _unfounded(rows: Rows, splits: NDArray[np.int8]) -> Places:
    """Later passes of which an earlier one is not there: in a split the passes over a content run from 0 on."""
    order = np.lexsort(
        (rows["epoch"], *(rows[name][:, half] for name in ("origin", "content") for half in (1, 0)), splits)
    )
    found, split = rows[order], splits[order]
    same = split[1:] == split[:-1]
    for name in ("content", "origin"):
        same &= (found[name][1:] == found[name][:-1]).all(axis=1)
    # How many different passes lie before it: its epoch, if none is missing.
    steps = np.zeros(len(rows), np.int64)
    steps[1:] = np.cumsum(same & (found["epoch"][1:] != found["epoch"][:-1]))
    return np.sort(order[steps - steps[_starts(len(rows), same)] != found["epoch"]])


def _starts(count: int, equal: NDArray[np.bool_]) -> Places:
    """For each of `count` sorted things the place of the first that it equals.

    `equal` tells of all but the first whether it equals the one before.
    """
    begins = np.ones(count, np.bool_)
    begins[1:] = ~equal
    starts = np.flatnonzero(begins)
    return np.repeat(starts, np.diff(np.append(starts, count)))


class _Names:
    """Keys and shards of rows. Only those that will be told are looked for: a log keeps so many a code."""

    def __init__(self, rows: Rows, told: Iterable[Places], keys: Mapping[str, str]) -> None:
        self._rows = rows
        self._names: dict[bytes, tuple[str, str]] = {}
        wanted = {self._name(place) for places in told for place in places[:KEPT_A_CODE]}
        for key, shard in keys.items() if wanted else ():
            origin, epoch = _pass_of(key)
            for name in wanted & {_short(origin) + epoch.to_bytes(4, "big"), _short(key) + bytes(4)}:
                self._names.setdefault(name, (key, shard))

    def at(self, place: np.int64) -> tuple[str, str]:
        """Key and shard; nothing where members are of another key than their JSON, which is a finding too."""
        return self._names.get(self._name(place), ("", ""))

    def _name(self, place: np.int64) -> bytes:
        # Of a field alone, NumPy would give the bytes in the machine's own order.
        return bytes(self._rows[place].tobytes()[_NAME])


def _pass_of(key: str) -> tuple[str, int]:
    """A key without the ending of its epoch, and that."""
    origin, ending, epoch = key.rpartition("-e")
    is_later = ending and epoch.isascii() and epoch.isdigit() and len(epoch) <= _DIGITS and epoch[0] != "0"
    return (origin, int(epoch)) if is_later else (key, 0)


def _content(sample: ShardSample) -> bytes:
    """Of media and turns; a medium without a digest is known by its path in its source."""
    media = [
        (m.kind, m.sha256 or (sample.source, m.path), m.start_ns, m.exclusive_end_ns or m.duration_ns)
        for m in sample.media
    ]
    return _short(repr((media, [(turn.role is Role.USER, turn.content) for turn in sample.conversations])))


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
