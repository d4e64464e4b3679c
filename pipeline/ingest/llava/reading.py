"""The annotation file, one payload an entry, with nothing in it that could not be written again."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from pipeline.storage.places import Place
from schemas.base import InputError, canonical_json, sha256_text

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longest line of a JSONL file that is read into memory."""


@dataclass(frozen=True)
class Item:
    """One entry of the file."""

    payload: dict[str, Any]
    """`{"value": <JSON>}`, or `{"fault": <why it is no JSON>}`."""
    identity: str
    """The entry's id; where it has none, a digest of what it holds."""
    where: str
    """File and line, or file and place in the list."""


def read_items(path: Place) -> Iterator[Item]:
    """Every entry of a `.json` list, or of a `.jsonl` file read line by line; blank lines are none.

    NaN is read as null: it is what pandas writes for a value that is missing. Raises InputError
    for another suffix, and for a `.json` file that is not one list.
    """
    if path.suffix == ".jsonl":
        return _read_lines(path)
    if path.suffix == ".json":
        return _read_list(path)
    raise InputError(f"{path}: expected a name ending in .json (one list) or .jsonl (one object a line)")


def _read_list(path: Place) -> Iterator[Item]:
    try:
        values = _loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; if it holds one object a line, name it .jsonl") from error
    if not isinstance(values, list):
        raise InputError(f"{path}: expected one JSON list of entries, got {type(values).__name__}")
    for index, value in enumerate(values):
        yield _item(value, f"{path.name}[{index}]")


def _read_lines(path: Place) -> Iterator[Item]:
    with path.open("rb") as file:
        for number, (line, whole) in enumerate(_lines(file), start=1):
            where = f"{path.name}:{number}"
            if not whole:
                yield _fault(f"more than {MAX_LINE_BYTES} bytes, beginning {line[:100]!r}", where)
            elif line.strip():
                try:
                    value = _loads(line)
                except (ValueError, RecursionError) as error:
                    yield _fault(f"{error}, in {line.strip()[:100]!r}", where)
                else:
                    yield _item(value, where)


def _lines(file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each line, or the head of one that is too long; and whether it is whole."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        whole = len(line) <= MAX_LINE_BYTES
        rest = line
        while not whole and rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES)
        yield line, whole


def _loads(text: bytes) -> Any:
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _item(value: Any, where: str) -> Item:
    try:
        content = sha256_text(canonical_json(value))
    except (UnicodeEncodeError, RecursionError) as error:  # half a surrogate pair, or nested too deeply
        return _fault(str(error), where)
    given = value.get("id") if isinstance(value, dict) else None
    return Item({"value": value}, str(given) if isinstance(given, str | int) else content, where)


def _fault(why: str, where: str) -> Item:
    return Item({"fault": why}, sha256_text(why), where)
