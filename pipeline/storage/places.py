"""`Place`: a local path or an object in a store, with the methods of `pathlib.Path` that this program uses.

A store has no folders: `mkdir` does nothing, and a folder is there while a key begins with its name and `/`.
Lists of a store may be stale, so nothing that must be right asks `iterdir`, `glob` or `is_dir`.
"""

import fnmatch
import io
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from pipeline.storage import listing
from pipeline.storage.client import client
from pipeline.storage.completing import complete
from pipeline.storage.copying import copy_object
from pipeline.storage.faults import AbsentError, PresentError, StoreError
from pipeline.storage.reading import FIRST_BYTES, ObjectReader, Stat, stat
from pipeline.storage.writing import ObjectWriter, Written, discard
from schemas.base import InputError
from schemas.stores import S3Url


@dataclass(frozen=True, order=True)
class S3Path:
    """`s3://bucket/key`; holds no more than that. For any thread, and picklable.

    What a store refuses is a StoreError: an OSError (FileNotFoundError, PermissionError, FileExistsError where
    Python raises these), whose text is for the user.
    """

    bucket: str
    key: str = ""
    """Without a `/` at either end; empty for the bucket."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"

    def __truediv__(self, other: str | PurePath) -> "S3Path":
        parts = PurePosixPath(str(other).replace("\\", "\\\\")).parts
        if "/" in parts or ".." in parts:
            raise ValueError(f"{other} is no path under {self}")
        return S3Path(self.bucket, "/".join(part for part in (self.key, *parts) if part))

    @property
    def url(self) -> S3Url:
        """As the client's calls want it."""
        return S3Url(self.bucket, self.key)

    @property
    def name(self) -> str:
        """The last part of the key; empty for a bucket."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket's URL, then the parts of the key."""
        return (f"s3://{self.bucket}", *(self.key.split("/") if self.key else ()))

    @property
    def parent(self) -> "S3Path":
        """The folder it is in; a bucket's is itself."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "S3Path":
        """A sibling."""
        if not self.name or not name or "/" in name:
            raise ValueError(f"{self} has no sibling {name!r}")
        return self.parent / name

    def with_suffix(self, suffix: str) -> "S3Path":
        """A sibling with another last suffix."""
        return self.with_name(PurePosixPath(self.name).with_suffix(suffix).name)

    def is_relative_to(self, other: object) -> bool:
        """Whether `other` is this place or a folder above it."""
        return isinstance(other, S3Path) and self.parts[: len(other.parts)] == other.parts

    def relative_to(self, other: "S3Path") -> PurePosixPath:
        """The path from `other` to here. Raises ValueError where there is none."""
        if not self.is_relative_to(other):
            raise ValueError(f"{self} is not under {other}")
        return PurePosixPath(*self.parts[len(other.parts) :])

    def as_posix(self) -> str:
        """The URL."""
        return str(self)

    def as_uri(self) -> str:
        """The URL."""
        return str(self)

    def absolute(self) -> "S3Path":
        """Itself."""
        return self

    resolve = expanduser = absolute

    def stat(self) -> Stat:
        """Size, time, ETag. Raises AbsentError (a FileNotFoundError) where there is no such object."""
        self._check_key()
        return stat(self.url)

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return bool(self.key) and client().head(self.url) is not None

    def is_dir(self) -> bool:
        """Whether there are objects under it, as far as the store's list knows."""
        return listing.any_under(self.folder_url)

    def exists(self) -> bool:
        """Whether it is an object, or a folder of some."""
        return self.is_file() or self.is_dir()

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.open("rb") as file:
            return cast("bytes", file.read())

    def read_text(self, encoding: str | None = None) -> str:
        """All of it, as text: UTF-8 where nothing else is said."""
        with self.open("r", encoding=encoding) as file:
            return cast("str", file.read())

    def write_bytes(self, data: bytes) -> int:
        """Puts it there, whole and at once."""
        with self.open("wb") as file:
            return file.write(data)

    def write_text(self, data: str, encoding: str | None = None) -> int:
        """Puts it there as UTF-8 where nothing else is said, whole and at once."""
        self.write_bytes(data.encode(encoding or "utf-8"))
        return len(data)

    def open(self, mode: str = "r", encoding: str | None = None) -> IO[Any]:
        """A file: `rb` and `r` read one version of the object in ranges, `wb` and `xb` write it anew as a stream.

        What is written appears at `close()`, whole and at once, and not where an error ends the `with` block.
        """
        if mode in {"wb", "xb"}:
            return self._writer(anew=mode == "xb")
        if mode not in {"r", "rb"}:
            raise ValueError(f"{self}: mode {mode!r}; expected r, rb, wb or xb")
        reader = io.BufferedReader(ObjectReader(self.url, self.stat()), FIRST_BYTES)
        return reader if mode == "rb" else io.TextIOWrapper(reader, encoding or "utf-8")

    def _writer(self, anew: bool) -> BinaryIO:
        self._check_key()
        if anew and self.is_file():
            raise PresentError(f"{self}: an object is there already; remove it, or choose another place")
        attempt = uuid.uuid4().hex

        def done(written: Written) -> None:
            try:
                complete(self.url, attempt, written, anew)
            except StoreError:
                with suppress(StoreError):
                    discard(self.url, written.upload)
                raise

        return cast("BinaryIO", ObjectWriter(self.url, attempt, done))

    def iterdir(self) -> Iterator["S3Path"]:
        """What is right under it, by name; nothing where there is no such folder."""
        return (S3Path(self.bucket, key) for key in listing.right_under(self.folder_url))

    def objects(self) -> Iterator[tuple["S3Path", Stat]]:
        """The objects under it at any depth, by key, with what the list says of them."""
        return ((S3Path(self.bucket, key), seen) for key, seen in listing.under(self.folder_url))

    def glob(self, pattern: str) -> Iterator["S3Path"]:
        """As pathlib's; `**` finds objects, no folders."""
        return _select(self, PurePosixPath(pattern).parts)

    def rglob(self, pattern: str) -> Iterator["S3Path"]:
        """Objects under it at any depth whose last parts match; folders, which are only names, are left out."""
        return (path for path, _ in self.objects() if path.relative_to(self).match(pattern))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        if not missing_ok:
            self.stat()
        store = client()
        with store.told(self.url):
            store.s3.delete_object(Bucket=self.bucket, Key=self.key)

    def replace(self, target: "S3Path") -> "S3Path":
        """Copies the object within the store, then removes it here; a kill in between leaves both."""
        seen = self.stat()
        if target != self:
            copy_object(self.url, seen, target.url)
            self.unlink(missing_ok=True)
        return target

    rename = replace

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: a store has no folders."""

    @property
    def folder_url(self) -> S3Url:
        """The prefix of what is under it."""
        return S3Url(self.bucket, f"{self.key}/" if self.key else "")

    def _check_key(self) -> None:
        if not self.key:
            raise AbsentError(f"{self}: a bucket is no file; give the path of an object in it")


Place = Path | S3Path


def place(text: "str | Place") -> Place:
    """The place that a user names by a plain path, `file:///abs/path` or `s3://bucket/path`; no request is made.

    Raises InputError for anything else, without what may be a secret in it.
    """
    if isinstance(text, Path | S3Path):
        return text
    if text.startswith("file:"):
        return _local(text)
    try:
        bare = text.rstrip("/") if text.startswith("s3://") else text
        url = S3Url.parse(f"{bare}/" if re.fullmatch(r"s3://[^/]+", bare) else bare)
    except ValueError as error:
        raise InputError(f"{error}; or give a plain path, or file:///PATH") from None
    return S3Path(url.bucket, url.key) if url else Path(text)


def _local(text: str) -> Path:
    parts = urlsplit(text)
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise InputError(
            f"{text.partition('?')[0].rpartition('@')[2]!r}: expected file:///ABSOLUTE/PATH, or a plain path"
        )
    return Path(unquote(parts.path))


def _select(folder: S3Path, parts: tuple[str, ...]) -> Iterator[S3Path]:
    head, *rest = parts
    if head == "**":
        yield from folder.rglob("/".join(rest) or "*")
        return
    if not re.search(r"[*?[]", head):
        found = iter((folder / head,)) if rest or (folder / head).exists() else iter(())
    else:
        found = (child for child in folder.iterdir() if fnmatch.fnmatchcase(child.name, head))
    for child in found:
        yield from _select(child, tuple(rest)) if rest else (child,)
