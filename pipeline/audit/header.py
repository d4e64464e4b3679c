"""One header block of a tar: ours to the byte, or a stranger's whose fields are told.

The law fixes all of a header but name and size, so a header of ours is proven by comparisons of bytes
alone; the fields are taken apart where one fails.
"""

from zlib import adler32

BLOCK = 512
_ZEROS = bytes(100)
_MODE_UID_GID, _MTIME = b"0000644\0" + 2 * b"0000000\0", b"00000000000\0"
_SIZE_END = b"\0" + _MTIME
_REST = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
"""From the type on: a regular file, no link, USTAR, no names, no devices, no prefix."""
_CHECKSUM = slice(148, 156)
_REST_SUM = sum(_REST) + 8 * ord(" ")
"""The checksum's own field counts as spaces."""

Header = tuple[str, int, str]
"""Name, bytes of the file, and how the header differs from the one of ours of that name and size; empty where it
does not. A bare tuple, since there is one a member of millions of samples."""


class HeaderError(ValueError):
    """No header of a regular file."""


def parse_header(block: bytes) -> Header:
    """The header in `block`, which has `BLOCK` bytes. Raises HeaderError where it is none of a regular file."""
    name, _, after_name = block[:100].partition(b"\0")
    size = block[124:135]
    if (
        block.startswith(_REST, 156)
        and block.startswith(_MODE_UID_GID, 100)
        and block.startswith(_SIZE_END, 135)
        and block.startswith(b"%06o\0 " % (byte_sum(block[:148]) + _REST_SUM), 148)
        and _ZEROS.startswith(after_name)
        and size.isdigit()
        and not size.strip(b"01234567")
    ):
        return name.decode("utf-8", "replace"), int(size, 8), ""
    return _stranger(block)


def byte_sum(data: bytes) -> int:
    """Sum of at most 256 bytes: the lower half of Adler-32 is 1 + sum mod 65521, which 256 * 255 is below."""
    return (adler32(data) & 0xFFFF) - 1


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
