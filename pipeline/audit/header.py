"""One header block of a tar: ours to the byte, or a stranger's whose fields are told.

The law fixes all of a header but name and size, so a header of ours is proven by comparisons of bytes
alone; the fields are taken apart where one fails.
"""

from struct import Struct
from zlib import adler32

BLOCK = 512
_MODE_UID_GID, _MTIME = b"0000644\0" + 2 * b"0000000\0", b"00000000000\0"
_SIZE_END = b"\0" + _MTIME
_REST = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
"""From the type on: a regular file, no link, USTAR, no names, no devices, no prefix."""
_CHECKSUM = slice(148, 156)
_REST_SUM = sum(_REST) + 8 * ord(" ")
"""The checksum's own field counts as spaces."""

_FIELDS = Struct("100s 24s 11s 13s 8s 356s").unpack
"""Name; mode, uid and gid; size; its end and the time; checksum; the rest."""


_SUM = 0xFFFF
"""The half of Adler-32 that is 1 + the sum of the bytes, mod 65521: that of 148 bytes is below."""


class _Checksums(dict[int, bytes]):
    """The field by that half of the bytes before it. Each is written once: they are few, and headers are many."""

    def __missing__(self, half: int) -> bytes:
        return self.setdefault(half, b"%06o\0 " % (half - 1 + _REST_SUM))


_CHECKSUMS = _Checksums()

Header = tuple[str, int, str]
"""Name, bytes of the file, and how the header differs from the one of ours of that name and size; empty where it
does not. A bare tuple, since there is one a member of millions of samples."""


class HeaderError(ValueError):
    """No header of a regular file."""


def parse_header(block: bytes) -> Header:
    """The header in `block`, which has `BLOCK` bytes. Raises HeaderError where it is none of a regular file."""
    name_field, owner, size, times, checksum, rest = _FIELDS(block)
    name = name_field.rstrip(b"\0")
    if (
        rest == _REST
        and owner == _MODE_UID_GID
        and times == _SIZE_END
        and checksum == _CHECKSUMS[adler32(block[:148]) & _SUM]
        and b"\0" not in name
        and not size.strip(b"01234567")
    ):
        try:
            return name.decode(), int(size, 8), ""
        except UnicodeDecodeError:
            return name.decode("utf-8", "replace"), int(size, 8), ""
    return _stranger(block)


def _stranger(block: bytes) -> Header:
    total = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    if _octal(block[_CHECKSUM]) != total:
        raise HeaderError(f"no tar header where one must be: checksum {block[_CHECKSUM]!r} is not {total:o}")
    name, prefix = _text(block[:100]), _text(block[345:500])
    name = f"{prefix}/{name}" if prefix else name
    if block[156:157] != b"0":
        raise HeaderError(f"member {name!r} of type {block[156:157]!r}: only regular files are ours")
    mode, uid, gid = (_octal(block[at : at + 8]) for at in (100, 108, 116))
    size_bytes, mtime = (_octal(block[at : at + 12]) for at in (124, 136))
    facts = (mtime, uid, gid, _text(block[265:297]), _text(block[297:329]), mode)
    return (
        name,
        size_bytes,
        f"(mtime, uid, gid, user, group, mode) is {facts}, magic {block[257:265]!r}: a tar of ours says "
        "(0, 0, 0, '', '', 0o644) in USTAR and nothing else, else builds are not byte-identical",
    )


def _octal(field: bytes) -> int:
    """A number as tars have it, closed by NULs or spaces. Raises HeaderError."""
    digits = field.partition(b"\0")[0].strip(b" ") or b"0"
    if not digits.isdigit() or digits.translate(None, b"01234567"):
        raise HeaderError(f"no tar header where one must be: {field!r} is no octal number")
    return int(digits, 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")
