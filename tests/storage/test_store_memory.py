"""Laws of memory: an object of any size passes through a fixed amount of it."""

import subprocess
import sys

import pytest
from store_server import BUCKET

from pipeline.storage.places import S3Path

MEBIBYTES = 300
CODE = """
import re, sys
from pathlib import Path
from pipeline.storage.places import place
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
path, count, act = place(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
piece = bytes(range(256)) * 4096
path.with_name("warm").write_bytes(b"x"), path.with_name("warm").read_bytes()
before = peak()
if act == "write":
    with path.open("wb") as file:
        for _ in range(count):
            file.write(piece)
else:
    with path.open("rb") as file:
        for _ in range(count):
            assert file.read(len(piece)) == piece
        assert not file.read(1)
print(peak() - before)
"""
BOUND_BYTES = 64 * 2**20
"""A writer holds 32 MiB of parts, a reader 16 MiB of blocks; the rest is for buffers of connections and threads."""


@pytest.mark.slow
@pytest.mark.parametrize("act", ["write", "read"])
def test_a_large_object_is_written_and_read_within_the_stated_memory(rclone, reach, tmp_path, act):
    reach(rclone)
    path = S3Path(BUCKET, f"{tmp_path.name}/large")
    if act == "read":
        with path.open("wb") as file:
            for _ in range(MEBIBYTES):
                file.write(bytes(range(256)) * 4096)
    command = [sys.executable, "-c", CODE, str(path), str(MEBIBYTES), act]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    grown = int(done.stdout) * 1024
    assert grown < BOUND_BYTES, f"{grown / 2**20:.0f} MiB"
