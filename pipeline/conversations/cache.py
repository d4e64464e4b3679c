"""The request cache: finished replies under the address of their prompt, on a disk or in an object store.

    cache.put(prompt, completion)
    cache.flush()                                   # from here on no kill can take them away
    [completion] = cache.get_many([prompt.address])

Any number of workers write side by side, each its own segments (`segments`), and see each other's.
"""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from pipeline.conversations.addresses import AddressIndex
from pipeline.conversations.engine import Completion, Prompt
from pipeline.conversations.segments import (
    GROUP_ROWS,
    SCHEMA,
    Segment,
    new_name,
    row_of,
    segments_in,
    write_segment,
)  # fmt: skip
from pipeline.storage.files import remains, remove_tree
from pipeline.storage.places import Place
from schemas.base import Record, Sha256

LARGE_ROWS = 32_768
"""Most rows of a segment that is made of others: some 50 MB of replies, which are in memory while it is made."""
FAN = 32
"""Segments of one size that a worker writes before it makes them one."""
OPEN_SEGMENTS, OPEN_GROUPS = 8, 64
"""Held open, and held unpacked (some 400 kB each)."""
_LISTS = 8
"""Of the folder, one after another, while segments go away between a list and the look at them."""
_THREADS = 8
"""Segments that are opened at once."""
_FIELDS = tuple(name for name in Completion.model_fields if name != "address")
_Reply = tuple[int, Completion]
"""When it was put, and what."""


class Usage(Record):
    """What replies took."""

    requests: int = Field(default=0, ge=0)
    prompt_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    """Of the prompts' tokens."""
    output_tokens: int = Field(default=0, ge=0)


class RequestCache:
    """The cache in `folder`. For any thread.

    Methods raise CacheError where a file there is damaged or foreign: it is refused, not skipped, for to skip it is
    to pay for its replies again unasked. They raise OSError (StoreError) where disk or store fail.
    """

    def __init__(self, folder: Place) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        """Of all that is below; held while replies are read."""
        self._names: dict[str, int] = {}
        self._index = AddressIndex()
        self._paths: list[Place] = []
        """By the segment's number in the index."""
        self._replaced: set[str] = set()
        self._buffer: list[dict[str, Any]] = []
        self._writing = threading.Lock()
        """Of the two below; held while a segment is written."""
        self._tiers: list[list[str]] = [[], [], []]
        """Our own segments, by how often they were joined."""
        self._rows: dict[str, int] = {}
        self._segment = lru_cache(OPEN_SEGMENTS)(lambda number: Segment(self._paths[number]))
        self._group = lru_cache(OPEN_GROUPS)(lambda number, group: _Rows(self._segment(number).group(group)))
        self.refresh()

    def __len__(self) -> int:
        """Replies that can be found; one that two workers asked for counts twice."""
        return len(self._index)

    def put(self, prompt: Prompt, completion: Completion) -> None:
        """Takes a reply in; it is kept from the next `flush` on, and found from then on."""
        with self._lock:
            self._buffer.append(row_of(prompt, completion))

    def flush(self) -> int:
        """Commits what was put, and says how many; if it raises, the next one tries those again."""
        with self._writing:
            with self._lock:
                rows = self._buffer[:]
            if not rows:
                return 0
            self._settle(0, self._write(pa.Table.from_pylist(rows, SCHEMA), rows))
            return len(rows)

    def get_many(self, addresses: Sequence[Sha256]) -> list[Completion | None]:
        """The reply of each address, None where there is none; of several replies the one that was put first."""
        with self._lock:
            found = self._look_up(addresses)
            if absent := [address for address in addresses if address not in found]:
                self.refresh()
                found |= self._look_up(absent)
            return [found.get(address) for address in addresses]

    def holds(self, addresses: Sequence[Sha256]) -> NDArray[np.bool_]:
        """Whether there is a reply to each address, as far as its first 64 bits tell; reads no reply."""
        raw = np.frombuffer(bytes.fromhex("".join(addresses)), np.uint8).reshape(-1, 32)
        with self._lock:
            self.refresh()
            which, _ = self._index.find(raw)
        held = np.zeros(len(addresses), np.bool_)
        held[which] = True
        return held

    def refresh(self) -> None:
        """Sees what other workers have committed since."""
        with self._lock:
            for _ in range(_LISTS):
                if self._see(segments_in(self._folder)):
                    return

    def usage(self, model_sha256: Sha256 | None = None) -> Usage:
        """Of all replies, or of one model's: from their columns, without their texts."""
        with self._lock:
            while True:
                self.refresh()
                try:
                    return self._sum(model_sha256)
                except FileNotFoundError:
                    continue

    def compact(self) -> None:
        """Joins small segments into large ones, and removes what killed workers left; for when none is at work.

        A kill at any step changes no answer: what a new segment replaces counts as gone once that one is there.
        """
        with self._writing, self._lock:
            self.refresh()
            for left in remains(self._folder):
                remove_tree(left.place)
            self._remove(self._replaced & set(segments_in(self._folder)))
            sizes = {name: Segment(self._folder / name).rows for name in sorted(self._names)}
            for names in _packed({name: rows for name, rows in sizes.items() if rows < LARGE_ROWS // 2}):
                self._join(names)

    def _sum(self, model_sha256: Sha256 | None) -> Usage:
        counted = [name for name in SCHEMA.names if name.endswith("_tokens")]
        totals = dict.fromkeys(["requests", *counted], 0)
        for name in list(self._names):
            try:
                table = Segment(self._folder / name).read([*counted, "model_sha256"])
            except FileNotFoundError:
                self._forget([name])
                raise
            if model_sha256 is not None:
                table = table.filter(pc.equal(table["model_sha256"], model_sha256))
            totals["requests"] += len(table)
            for column in counted:
                totals[column] += pc.sum(table[column]).as_py() or 0
        return Usage(**totals)

    def _see(self, names: list[str]) -> bool:
        """Makes the index one of these segments. Returns False where some were gone before they could be read."""
        listed = set(names)
        new = [name for name in names if name not in self._names and name not in self._replaced]
        gone = False
        with ThreadPoolExecutor(_THREADS) as threads:
            for name, found in zip(new, threads.map(self._addresses, new), strict=True):
                if found is None:
                    gone = True
                    continue
                self._add(name, found[0])
                self._replaced |= found[1]
        self._forget([name for name in self._names if name in self._replaced or name not in listed])
        self._replaced &= listed
        return not gone

    def _addresses(self, name: str) -> tuple[NDArray[np.uint8], frozenset[str]] | None:
        try:
            segment = Segment(self._folder / name)
            return segment.addresses(), segment.replaces
        except FileNotFoundError:
            return None

    def _add(self, name: str, addresses: NDArray[np.uint8]) -> None:
        if name in self._names:
            return
        self._names[name] = len(self._paths)
        self._paths.append(self._folder / name)
        self._index.add(addresses, self._names[name])

    def _forget(self, names: Iterable[str]) -> None:
        if numbers := [self._names.pop(name) for name in names if name in self._names]:
            self._index.drop(numbers)

    def _look_up(self, addresses: Sequence[Sha256]) -> dict[Sha256, Completion]:
        """Those that are here, as far as was last seen."""
        while True:
            try:
                return self._read(addresses)
            except FileNotFoundError:  # another worker has joined segments since
                self.refresh()

    def _read(self, addresses: Sequence[Sha256]) -> dict[Sha256, Completion]:
        raw = bytes.fromhex("".join(addresses))
        which, places = self._index.find(np.frombuffer(raw, np.uint8).reshape(-1, 32))
        found: dict[Sha256, _Reply] = {}
        by_place = np.argsort(places)  # so that each group of rows is read once
        for at, place in zip(which[by_place].tolist(), places[by_place].tolist(), strict=True):
            rows = self._rows_at(place >> 32, (place & 0xFFFFFFFF) // GROUP_ROWS)
            row = rows.where.get(raw[32 * at : 32 * at + 32])
            if row is not None:
                reply, known = rows.reply(row, addresses[at]), found.get(addresses[at])
                found[addresses[at]] = min(known, reply, key=_rank) if known else reply
        return {address: completion for address, (_, completion) in found.items()}

    def _rows_at(self, number: int, group: int) -> "_Rows":
        try:
            return self._group(number, group)
        except FileNotFoundError:
            self._forget([self._paths[number].name])
            raise

    def _write(self, table: pa.Table, rows: list[dict[str, Any]]) -> str:
        name = new_name()
        write_segment(self._folder / name, table)
        self._rows[name] = len(table)
        with self._lock:
            del self._buffer[: len(rows)]
            self._add(name, np.frombuffer(b"".join(row["address"] for row in rows), np.uint8).reshape(-1, 32))
        return name

    def _settle(self, tier: int, name: str) -> None:
        """Keeps the number of our segments small: a day of one a second is 86,400."""
        own = self._tiers[tier]
        own.append(name)
        if len(own) < FAN:
            return
        names, self._tiers[tier] = own, []
        rows = sum(self._rows.pop(name) for name in names)
        if tier + 1 < len(self._tiers) and rows <= LARGE_ROWS:
            with suppress(FileNotFoundError):  # who counts as dead may find that they were joined already
                joined = self._join(names)
                self._rows[joined] = rows
                self._settle(tier + 1, joined)

    def _join(self, names: Sequence[str]) -> str:
        """One segment of several; they go once it is there."""
        joined = new_name()
        table = pa.concat_tables([Segment(self._folder / name).read() for name in names]).combine_chunks()
        write_segment(self._folder / joined, table, names)
        addresses = Segment(self._folder / joined).addresses()
        with self._lock:
            self._add(joined, addresses)
            self._replaced |= set(names)
            self._forget(names)
        self._remove(names)
        return joined

    def _remove(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            (self._folder / name).unlink(missing_ok=True)


def _packed(sizes: dict[str, int]) -> list[list[str]]:
    """Neighbours in time, to be joined: at least two, and no more than LARGE_ROWS rows."""
    packs: list[list[str]] = [[]]
    rows = 0
    for name, size in sizes.items():
        if rows + size > LARGE_ROWS:
            packs.append([])
            rows = 0
        packs[-1].append(name)
        rows += size
    return [pack for pack in packs if len(pack) > 1]


class _Rows:
    """The rows of one row group, as plain columns: a reply that is not asked for costs no record."""

    def __init__(self, table: pa.Table) -> None:
        self._put_ns: list[int] = table["put_ns"].to_pylist()
        self._columns = {name: table[name].to_pylist() for name in _FIELDS}
        self.where: dict[bytes, int] = {}
        """The row of each address; of several the one that counts."""
        for row, address in enumerate(table["address"].to_pylist()):
            known = self.where.setdefault(address, row)
            if known != row:
                name = address.hex()
                self.where[address] = min(known, row, key=lambda each: _rank(self.reply(each, name)))

    def reply(self, row: int, address: Sha256) -> _Reply:
        """What the row keeps, under its address."""
        values = {name: column[row] for name, column in self._columns.items()}
        return self._put_ns[row], Completion(address=address, **values)


def _rank(reply: _Reply) -> tuple[int, str, str]:
    """Of several replies to one address the least counts: the first, and of two at once always the same."""
    put_ns, completion = reply
    return put_ns, completion.text, completion.finish
