"""The mixtures that audits are made of."""

import shutil

import pytest
import shard_factory as made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small sound mixture; a module that needs another kind makes its own."""
    where = tmp_path_factory.mktemp("mixture")
    made.build(where)
    return where


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "mixture")
