"""The Prefect flow without a server."""

import os
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def prefect_flow(tmp_path_factory):
    """The module of the flow. Prefect makes its home when it is imported: not in the user's, nor in ours."""
    os.environ.setdefault("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
    from flows import build_mixture

    return build_mixture


@pytest.fixture
def serverless(prefect_flow, monkeypatch):
    """The flow's function with each task called as the plain function it is; gives the artifacts made."""
    from prefect.logging import disable_run_logger

    from flows import pages

    plain, made, steps = prefect_flow.run_step.fn, {}, []

    def with_options(*, name, task_run_name):
        steps.append(name)
        return plain

    monkeypatch.setattr(prefect_flow, "run_step", SimpleNamespace(with_options=with_options))
    for kind in ("markdown", "table", "progress"):
        monkeypatch.setattr(
            pages, f"create_{kind}_artifact", lambda data, key, description: made.update({key: data})
        )
    monkeypatch.setattr(pages, "update_progress_artifact", lambda artifact, percent: None)
    with disable_run_logger():
        yield SimpleNamespace(run=prefect_flow.build_mixture.fn, made=made, steps=steps)
