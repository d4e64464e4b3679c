"""Whether a file holds what a store says that it holds."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schemas.base import InputError

_BLOCK_BYTES = 4 * 2**20


def check_file(path: Path, size: int, head: Mapping[str, Any], shown: str) -> None:
    """Raises InputError unless `path` has `size` bytes, and the checksum in `head` where it is of the whole object.

    The transfer manager fetches large objects in ranges, and no store gives the checksum of a range. `head` is a
    HeadObject answer; `shown` names the object.
    """
    if (found := path.stat().st_size) != size:
        raise InputError(f"{shown}: {found} bytes came, but the store says {size}; run the same command again")
    for name, compute in _ALGORITHMS.items():
        told = head.get(f"Checksum{name}", "")
        if told and "-" not in told and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
            if (sum_ := compute(path)) != told:
                raise InputError(
                    f"{shown}: {name} of what came is {sum_}, but the store says {told}; run the same command again"
                )
            return


def _hashed(name: str) -> Callable[[Path], str]:
    def compute(path: Path) -> str:
        with path.open("rb") as file:
            return base64.b64encode(hashlib.file_digest(file, name).digest()).decode()

    return compute


def _cyclic(function: Callable[[bytes, int], int], size: int) -> Callable[[Path], str]:
    def compute(path: Path) -> str:
        value = 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                value = function(block, value)
        return base64.b64encode(value.to_bytes(size, "big")).decode()

    return compute


def _native(name: str) -> Callable[[bytes, int], int]:
    """Of Amazon's own library: Python has no fast code for these two, and one is what S3 itself adds today."""

    def function(block: bytes, value: int) -> int:
        from awscrt import checksums

        return int(getattr(checksums, name)(block, value))

    return function


_ALGORITHMS: dict[str, Callable[[Path], str]] = {
    "SHA256": _hashed("sha256"),
    "SHA1": _hashed("sha1"),
    "CRC64NVME": _cyclic(_native("crc64nvme"), 8),
    "CRC32C": _cyclic(_native("crc32c"), 4),
    "CRC32": _cyclic(zlib.crc32, 4),
}
