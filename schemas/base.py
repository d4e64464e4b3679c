"""The ground all records stand on: frozen models, keys, canonical JSON and digests."""

import hashlib
import json
from fractions import Fraction
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer


class InputError(ValueError):
    """A mistake in what the user gave: a file, a folder, a recipe. Its message shows the value and the mend."""


KEY_PATTERN = r"^[a-z0-9_-]{1,80}$"
"""A WebDataset key. A dot would merge samples silently; wids cuts tar member names at 100 bytes,
so 80 bytes of key leave room for the longest suffix."""

Key = Annotated[str, Field(pattern=KEY_PATTERN)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""A short name chosen in a recipe: of a source, an encoder, a recipe."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Nanoseconds = Annotated[int, Field(ge=0, lt=2**63)]


def _parse_fraction(value: object) -> Fraction:
    """Reads 2, 0.1, "0.1", "30000/1001" exactly: a YAML float means the decimal that was typed."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Fraction):
        raise ValueError(f"expected a number or a ratio such as 30000/1001, got {value!r}")
    text = str(value).replace(" ", "")
    if len(text) > 40 or ("e" in text.lower() and abs(int(text.lower().partition("e")[2] or 0)) > 30):
        raise ValueError(f"a number of that size is no share and no rate: {text[:40]!r}")
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"expected a number or a ratio such as 30000/1001, got {value!r}") from None


Rational = Annotated[
    Fraction,
    BeforeValidator(_parse_fraction),
    PlainSerializer(str, return_type=str),
]
"""An exact number: floats of a YAML file are read as the decimals they were written as."""


class File(Protocol):
    """Of a disk or of an object store."""

    def read_bytes(self) -> bytes:
        """All of it."""


class Folder(Protocol):
    """Of a disk or of an object store."""

    def __truediv__(self, name: str, /) -> File:
        """A file in it."""


class Record(BaseModel):
    """A frozen record that checks itself at birth and admits no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def canonical(self) -> str:
        """The one JSON text of this record: sorted keys, no spaces, UTF-8."""
        return canonical_json(self.model_dump(mode="json"))


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces, no NaN, UTF-8 kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """Hex SHA-256 of the UTF-8 bytes of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value` (a record, or plain JSON data)."""
    return sha256_text(value.canonical() if isinstance(value, Record) else canonical_json(value))
