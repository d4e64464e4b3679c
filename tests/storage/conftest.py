"""An empty store for each test here; a folder on a disk and in each kind of store."""

from pathlib import Path

import pytest
from botocore.loaders import create_loader
from fault_proxy import running_proxy
from rclone_server import running_rclone
from store_server import BUCKET, running_store, settings

from pipeline.storage.client import forget
from pipeline.storage.places import S3Path

LOADER = create_loader()
"""Of the client's own data files: read once, not with every client."""


@pytest.fixture(scope="session")
def server():
    with running_store() as store:
        yield store


@pytest.fixture(scope="session")
def rclone(tmp_path_factory):
    with running_rclone(tmp_path_factory.mktemp("rclone")) as store:
        yield store


@pytest.fixture
def reach(tmp_path, monkeypatch):
    """Lets the code under test find the store that it is given, and no other settings."""
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)

    def reach(store):
        forget()
        for name, value in settings(store, tmp_path / "cache").items():
            monkeypatch.setenv(name, value)

    yield reach
    forget()


@pytest.fixture
def store(server, reach):
    """Running, and found by the code under test."""
    server.empty()
    reach(server)
    return server


@pytest.fixture(params=["moto", "rclone"])
def proxied(request, server, rclone, reach, tmp_path):
    """A fault proxy without faults before each kind of store, with an empty folder at `proxy.folder`."""
    server.empty()
    with running_proxy((server if request.param == "moto" else rclone).endpoint) as proxy:
        reach(proxy)
        proxy.folder = S3Path(BUCKET, tmp_path.name)
        yield proxy


@pytest.fixture(params=["local", "moto", "rclone"])
def folder(request, server, rclone, reach, tmp_path):
    """An empty place of each kind."""
    if request.param == "local":
        path: Path = tmp_path / "folder"
        path.mkdir()
        return path
    server.empty()
    reach(server if request.param == "moto" else rclone)
    return S3Path(BUCKET, tmp_path.name)
