"""An empty store for each test here."""

import pytest
from botocore.loaders import create_loader
from store_server import running_store, settings

LOADER = create_loader()
"""Of the client's own data files: read once, not with every client."""


@pytest.fixture(scope="session")
def server():
    with running_store() as store:
        yield store


@pytest.fixture
def store(server, tmp_path, monkeypatch):
    """Running, and found by the code under test."""
    server.empty()
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in settings(server, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    return server
