"""A place that cannot be written, or stops being so: one message with its mend, exit 2, nothing half visible."""

import ctypes
import os
import resource
import subprocess
import sys

import pytest
from mini import contents, environment, mini_recipe, mixture, texts_only, write_recipe
from store_server import BUCKET, running_store, settings

from schemas.ledger import LEDGER

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
"""Of `prctl(2)` and `capabilities(7)`."""


@pytest.fixture
def recipe(tmp_path):
    return texts_only(tmp_path)


def check_refused(done, *words):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture(scope="module")
def store():
    with running_store() as server:
        yield server


@pytest.fixture
def env(store, tmp_path):
    store.empty()
    return {**environment(), **settings(store, tmp_path / "cache")}


@pytest.mark.parametrize("place", ["--output", "--workspace"])
def test_a_bucket_that_is_not_there_is_told_before_any_work(recipe, env, tmp_path, place):
    done = mixture("build", recipe, place, "s3://nowhere-to-be-found/x", env=env)
    check_refused(done, "s3://nowhere-to-be-found/x", "no such bucket")
    assert not (tmp_path / "workspace" / "ingest").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [("ExpiredToken", "expired"), ("AccessDenied", "s3:PutObject"), ("InvalidAccessKeyId", "does not accept")],
)
def test_credentials_that_are_refused_are_told_before_any_work(recipe, env, store, tmp_path, code, words):
    store.refuse("403 Forbidden", code, methods="HEAD GET PUT POST DELETE")
    done = mixture("build", recipe, "--output", f"s3://{BUCKET}/out", env=env)
    check_refused(done, f"s3://{BUCKET}/out", words)
    assert "do-not-tell-anyone" not in done.stderr
    assert not (tmp_path / "workspace" / "ingest").exists()


@pytest.mark.slow
def test_a_credential_that_expires_on_the_way_leaves_nothing_to_see_and_the_same_command_ends_it(
    recipe, env, store, tmp_path
):
    writes = []

    def expire(environ):
        writes.append(environ["REQUEST_METHOD"])
        body = "<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>"
        return ("403 Forbidden", body) if writes.count("PUT") > 5 else None

    store.before = expire
    arguments = ["build", recipe, "--workspace", f"s3://{BUCKET}/ws", "--output", f"s3://{BUCKET}/out"]
    check_refused(mixture(*arguments, env=env), "expired")
    store.before = lambda _: None
    keys = [item["Key"] for item in store.client.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
    assert f"out/{LEDGER}" not in keys
    assert mixture(*arguments, env=env).returncode == 0
    assert mixture("build", recipe, env=env).returncode == 0
    listed = store.client.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]
    there = {i["Key"][4:]: store.client.get_object(Bucket=BUCKET, Key=i["Key"])["Body"].read() for i in listed}
    assert there == contents(tmp_path / "out")


def obey_permissions():
    """Root may write anywhere by a capability, which this process and what it starts give up."""
    if os.geteuid() == 0:
        assert ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE) == 0


@pytest.mark.parametrize("option", ["--output", "--workspace"])
def test_a_process_without_write_permission_says_so(recipe, tmp_path, option):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
    command = [sys.executable, "-m", "flows.cli", "build", str(recipe), option, str(closed / "here")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), preexec_fn=obey_permissions)
    check_refused(done, str(closed), "not yours to write to")
    assert not list(closed.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("limit", [20_000, 120_000, 400_000])
def test_a_disk_that_takes_no_more_is_told_and_the_same_command_ends_it(tmp_path, limit):
    """A limit on the size of a file stands for a full disk: the kernel refuses in the middle of a write."""
    recipe = write_recipe(tmp_path, mini_recipe(tmp_path))
    command = [sys.executable, "-m", "flows.cli", "build", str(recipe)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    check_refused(done, "File too large", "run the same command again")
    assert not (tmp_path / "out" / LEDGER).exists()
    assert mixture("build", recipe, env=environment()).returncode == 0
    assert mixture("audit", tmp_path / "out", env=environment()).returncode == 0
