"""An S3 server on the loopback for benchmarks/shards.py: rclone over the files of a folder."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RCLONE = Path(sys.executable).with_name("rclone")
_KEYS = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anything"}
_ADDRESS = re.compile(r"\[(http://127\.0\.0\.1:\d+)/?\]")


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The endpoint; each folder in `root` is a bucket that anybody may read. Raises RuntimeError if it fails."""
    command = [RCLONE, "serve", "s3", "--addr", "127.0.0.1:0", "--config", "", root]
    server = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)  # noqa: S603
    try:
        yield _endpoint(server)
    finally:
        server.terminate()
        server.communicate()


def _endpoint(server: "subprocess.Popen[str]") -> str:
    told = []
    for line in server.stderr or ():
        told.append(line)
        if found := _ADDRESS.search(line):
            return found[1]
    raise RuntimeError(f"rclone did not start: {''.join(told)}")


def settings(endpoint: str, bucket: str, folder: Path) -> dict[str, str]:
    """Environment by which each reader finds the store: boto3's, Streaming's, and a profile of Energon's client."""
    profile = {
        "storage_provider": {
            "type": "s3",
            "options": {"base_path": bucket, "endpoint_url": endpoint, "region_name": "us-east-1"},
        },
        "credentials_provider": {
            "type": "S3Credentials",
            "options": {"access_key": "anybody", "secret_key": "anything"},
        },
    }
    config = folder / "msc.json"
    config.write_text(json.dumps({"profiles": {"store": profile}}))
    return {
        **_KEYS,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "S3_ENDPOINT_URL": endpoint,
        "MSC_CONFIG": str(config),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
