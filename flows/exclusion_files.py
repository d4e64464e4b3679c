"""Reads exclusion lists, JSONL or plain text, and explains every line that cannot be used.

{"key": "web-0001", "reason": "asked for by its owner"}     one object a line; see `schemas.exclusions.Excluded`
dQw4w9WgXcQ                                                 a key, a sha256, or a medium's path, name or stem
# a comment
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import ValidationError

from flows.yaml_file import FileError, Mistake
from pipeline.storage.places import place
from schemas.exclusions import Excluded, ExclusionList

TOLD = 20
"""Mistakes of one file that are told at once."""
MOST_REASONS = 1_000
"""Different reasons a list: the ledger has a row for each, and must stay small."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

Take = Callable[[str, Iterable[Excluded]], int]
"""Takes the records of the list of this name; gives their number."""


def read_exclusions(paths: Sequence[str], take: Take) -> tuple[ExclusionList, ...]:
    """Hands the records of every file to `take`, file by file. Raises FileError with every mistake of a file."""
    told = []
    for path in paths:
        data = _bytes(path)
        name = place(path).stem
        number = take(name, _records(data, path))
        told.append(ExclusionList(name=name, sha256=hashlib.sha256(data).hexdigest(), records=number))
    return tuple(told)


def changed_exclusions(paths: Sequence[str], told: Sequence[ExclusionList]) -> list[str]:
    """Names of the lists that are here, with other content than was told; a list may stay where it was read."""
    return [
        each.name
        for path, each in zip(paths, told, strict=True)
        if place(path).is_file() and hashlib.sha256(_bytes(path)).hexdigest() != each.sha256
    ]


def _bytes(path: str) -> bytes:
    try:
        return place(path).read_bytes()
    except OSError as error:
        message = f"this exclusion list cannot be read ({error.strerror}): mend its path, or take it out"
        raise FileError(path, [Mistake(0, "", message)]) from None


def _records(data: bytes, file: str) -> Iterator[Excluded]:
    mistakes, reasons = list[Mistake](), set[str]()
    # Not by `splitlines`: strangers' names may hold U+2028, which it cuts at.
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            record = _record(line.decode().strip())
        except ValueError as error:
            mistakes.append(Mistake(number, "", _explained(error)))
            if len(mistakes) == TOLD:
                break
            continue
        if record is None:
            continue
        reasons.add(record.reason)
        if len(reasons) > MOST_REASONS:
            message = (
                f"more than {MOST_REASONS} different reasons, and the ledger tells each: give fewer, broader ones"
            )
            mistakes.append(Mistake(number, "", message))
            break
        yield record
    if mistakes:
        raise FileError(file, mistakes)


def _record(line: str) -> Excluded | None:
    """None for a line that says nothing. Raises ValueError."""
    if not line or line.startswith("#"):
        return None
    if line.startswith("{"):
        return Excluded.model_validate_json(line)
    if line[0] in '["':
        raise ValueError(
            f"{line[:40]!r} is no object and no plain name: give one JSON object a line, without commas"
        )
    if _SHA256.fullmatch(line):
        return Excluded(sha256=line)
    return Excluded(name=line)


def _explained(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.object[error.start]:#04x}): save the file as UTF-8"
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"no field {field!r} here: a record has key, sha256, media, question or name, and a reason"
    if first["type"] == "value_error":
        return str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return f"{first['msg']}: give one whole JSON object a line"
    return f"{field}: {first['msg']}, got {first['input']!r:.80}"
