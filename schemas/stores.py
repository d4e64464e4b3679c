"""`S3Url`: where an object, or a folder of objects, lies in an object store."""

import re
from typing import NamedTuple

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_KEY = r"(?:(?!\.{1,2}(?:/|$))[\w.=+@,() -]+/)*(?:(?!\.{1,2}$)[\w.=+@,() -]+)?"
_MAX_KEY_BYTES = 1024


class S3Url(NamedTuple):
    """`s3://BUCKET/PATH/FILE`, or `s3://BUCKET/PATH/` for the objects right under it. Holds no secret, ever."""

    bucket: str
    key: str
    """As the store knows it, never URL-encoded; empty, or ending in `/`, for a folder."""

    @classmethod
    def parse(cls, text: str) -> "S3Url | None":
        """None for what is a plain path or another kind of reference.

        Raises ValueError for another scheme, and for an s3 URL of an odd form. Its message leaves out what may be
        a secret: credentials before an `@`, and all from a `?` on, where a signed URL keeps its signature.
        """
        if not re.match(r"[A-Za-z][\w+.-]*://|s3[an]?:", text, re.IGNORECASE):
            return None
        found = re.fullmatch(rf"s3://({_BUCKET})/({_KEY})", text)
        if not found or ".." in found[1] or len(found[2].encode()) > _MAX_KEY_BYTES:
            raise ValueError(
                f"{_shown(text)!r}: expected s3://BUCKET/PATH/FILE, or s3://BUCKET/PATH/ for a folder, spelled as "
                "the store knows it, without credentials, query or endpoint: AWS_PROFILE or AWS_ACCESS_KEY_ID tell "
                "who asks, AWS_ENDPOINT_URL which store"
            )
        return cls(found[1], found[2])

    @property
    def is_folder(self) -> bool:
        """Whether it names all objects right under it, not one."""
        return not self.key or self.key.endswith("/")

    @property
    def name(self) -> str:
        """The last part of the path; empty for a folder."""
        return self.key.rpartition("/")[2]

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def _shown(text: str) -> str:
    """`text` without what may be a secret."""
    masked = re.sub(r"^([^:]*:(?://)?).*@", r"\1***@", text, flags=re.DOTALL)
    return re.sub(r"\?.*", "?***", masked, flags=re.DOTALL)
