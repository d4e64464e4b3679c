"""A real S3 server for a test, in a process of its own: moto's, which honours the conditions of a write."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from store_server import Store, running_store


class Moto:
    """The server's process, on a port that it chose, with one empty bucket."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def running_moto() -> Iterator[Moto]:
    """Stopped at the end of the block."""
    store = Moto()
    try:
        yield store
    finally:
        store.stop()


def _serve(store: Store) -> None:
    print(store.endpoint, flush=True)  # noqa: T201
    while True:
        time.sleep(60)
        store.asked.clear()


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
    with running_store() as here:
        _serve(here)
