"""An empty store for each test here."""

import pytest
from store_server import running_store, settings


@pytest.fixture(scope="session")
def server():
    with running_store() as store:
        yield store


@pytest.fixture
def store(server, tmp_path, monkeypatch):
    """Running, and found by the code under test."""
    server.empty()
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in settings(server, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    return server
