"""A real S3 server for a test: `rclone serve s3` over the files of a folder. It ignores conditions of a write."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store_server import ACCESS, BUCKET

PROGRAM = Path(sys.executable).with_name("rclone")


class Rclone:
    """The server's process, on a port that it chose, with one empty bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / BUCKET
        """What the bucket holds, as files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = ",".join(ACCESS.values())
        command = [PROGRAM, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", keys, "--config", "", folder]
        self._process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        self.endpoint = self._started()

    def _started(self) -> str:
        told = []
        for line in self._process.stderr or ():
            told.append(line)
            if found := re.search(r"\[(http://127\.0\.0\.1:\d+)/?\]", line):
                return found[1]
        raise RuntimeError(f"rclone did not start: {''.join(told)}")

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.communicate()


@contextmanager
def running_rclone(folder: Path) -> Iterator[Rclone]:
    """Stopped at the end of the block."""
    store = Rclone(folder)
    try:
        yield store
    finally:
        store.stop()
