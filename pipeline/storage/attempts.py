"""`S3Attempt`: an object that was written, and is not there until the driver commits it."""

import uuid
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from pipeline.storage.completing import complete
from pipeline.storage.faults import AbsentError, StoreError
from pipeline.storage.places import S3Path
from pipeline.storage.reading import Stat
from pipeline.storage.writing import ObjectWriter, Written, discard


@dataclass(frozen=True, order=True)
class S3Attempt(S3Path):
    """A place to write to, once: an upload of the object at this very URL, which nobody sees before `commit`.

    It may be pickled to a worker and back. What was written is known to the attempt that wrote it and to pickles of
    it from then on: the worker returns its own. A killed one leaves an upload that is never visible
    (`files.remains`).
    """

    attempt: str = ""
    written: list[Written] = field(default_factory=list, compare=False, repr=False)
    """One, once it is written."""

    @classmethod
    def of(cls, path: S3Path) -> "S3Attempt":
        """A new one for the object `path`; no request is made."""
        return cls(path.bucket, path.key, uuid.uuid4().hex)

    @property
    def target(self) -> S3Path:
        """What it becomes."""
        return S3Path(self.bucket, self.key)

    def commit(self) -> None:
        """Makes it the object, whole and at once. Raises AbsentError where nothing was written."""
        complete(self.url, self.attempt, self._written())
        self.written.clear()

    def stat(self) -> Stat:
        """Its size. Raises AbsentError where nothing was written."""
        return Stat(self._written().size, 0, "", "", self.attempt)

    def is_file(self) -> bool:
        """Whether it was written."""
        return bool(self.written)

    def is_dir(self) -> bool:
        """Never."""
        return False

    def unlink(self, missing_ok: bool = False) -> None:
        """Takes back what was written, here or in the worker that this came from."""
        if not missing_ok:
            self._written()
        while self.written:
            discard(self.url, self.written.pop().upload)

    def open(self, mode: str = "r", encoding: str | None = None) -> BinaryIO:
        """`wb` or `xb`: takes back what was written before."""
        if mode not in {"wb", "xb"}:
            raise StoreError(f"{self} is being written: nothing can be read of it before it is whole")
        self._check_key()
        self.unlink(missing_ok=True)
        return cast("BinaryIO", ObjectWriter(self.url, self.attempt, self.written.append))

    def _written(self) -> Written:
        if not self.written:
            raise AbsentError(f"{self}: nothing was written to this attempt")
        return self.written[0]
