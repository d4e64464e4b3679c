"""A place that cannot be written, or stops being so: one message with its mend, exit 2, nothing half visible."""

import os
import resource
import subprocess
import sys

import pytest
from mini import contents, environment, mini_recipe, mixture, texts_only, write_recipe
from store_server import BUCKET, running_store, settings

from schemas.ledger import LEDGER


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
    keys = [item["Key"] for item in store.client.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
    assert f"out/{LEDGER}" not in keys
    store.before = lambda _: None
    assert mixture(*arguments, env=env).returncode == 0
    assert mixture("build", recipe, env=env).returncode == 0
    listed = store.client.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]
    there = {i["Key"][4:]: store.client.get_object(Bucket=BUCKET, Key=i["Key"])["Body"].read() for i in listed}
    assert there == contents(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_process_without_write_permission_says_so(recipe, tmp_path):
    """The folder of its work may be written, that of the output may not."""
    closed, work = tmp_path / "closed", tmp_path / "work"
    closed.mkdir(mode=0o755)
    work.mkdir()
    os.chown(work, 65534, 65534)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    command = [
        sys.executable, "-m", "flows.cli", "build", recipe, "--workspace", work / "ws", "--output", closed / "out",
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, user=65534, group=65534, extra_groups=[],
        env={**environment(), "HOME": str(work), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    check_refused(done, str(closed), "not yours to write to")
    assert not list(closed.iterdir())


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
