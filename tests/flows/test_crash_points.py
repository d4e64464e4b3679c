"""Law 4, point by point: SIGKILL at each place where a build can be cut in two, then the same command again."""

import os
import re
import shutil
import signal
from pathlib import Path

import boto3
import pytest
from crash_points import POINTS
from fork_server import ForkServer
from mini import contents, environment, mini_recipe, mixture, write_recipe
from rclone_server import running_rclone
from store_server import BUCKET, settings

from flows.publish_objects import NOTE
from schemas.ledger import LEDGER

WHILE_PUBLISHED = {
    *(name for name, point in POINTS.items() if point.only),
    "rejections-told",
}
"""Points that are met once the workspace is whole."""


def test_the_operations_manual_lists_exactly_these_points():
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    told = manual.partition("## A kill at any instant")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", told, re.MULTILINE) == list(POINTS)


class Bench:
    """A disk or a store on which builds are killed, and what it shows of the output."""

    def __init__(
        self,
        kind: str,
        folder: Path,
        endpoint_env: dict[str, str],
        data: Path | None = None,
        total: int = 20,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        root = f"s3://{BUCKET}" if kind == "store" else str(folder)
        self.places = ["--workspace", f"{root}/ws", "--output", f"{root}/out"]
        self.client = client_of(endpoint_env) if endpoint_env else None
        self.server = ForkServer({**environment(), **endpoint_env}, folder / "forked.log")
        self.data = data or folder / "data"
        self.path, self.older = (self._recipe(samples) for samples in (total, total // 2))

    def _recipe(self, total: int) -> Path:
        """Of so many samples; the folder of its data is part of a recipe's digest."""
        recipe = mini_recipe(self.data, mixture={"total": total, "shares": {"text": 10, "image": 30, "video": 60}})
        recipe["sources"][0] |= {"videos": total * 7 // 10, "heldout": 0}
        recipe["encoders"]["internvideo2"]["store"]["place"] = "column"
        recipe["shards"]["samples_per_shard"] = total * 3 // 10
        (self.data / str(total)).mkdir(exist_ok=True)
        return write_recipe(self.data / str(total), recipe)

    def build(self, point=None, path=None):
        return self.server.run(["build", path or self.path, *self.places], point)

    def files(self, name):
        """Bytes of the files in a folder, by path relative to it."""
        if not self.client:
            return contents(self.folder / name)
        return {key.removeprefix(f"{name}/"): self._object(key) for key in self._keys(name)}

    def _keys(self, name):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/")
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def _object(self, key):
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def attempts(self):
        """What killed runs left half written, and nobody took away."""
        if self.client:
            return self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [path for path in self.folder.rglob(".attempt-*") if path.is_file()]

    def clear(self, name):
        """Removes a folder, by way of the store: rclone keeps lists of its own."""
        if not self.client:
            shutil.rmtree(self.folder / name)
            return
        for key in self._keys(name):
            self.client.delete_object(Bucket=BUCKET, Key=key)

    def put(self, name, files):
        for key, data in files.items():
            if self.client:
                self.client.put_object(Bucket=BUCKET, Key=f"{name}/{key}", Body=data)
            else:
                (self.folder / name / key).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name / key).write_bytes(data)

    @property
    def output(self):
        """What a reader can see there."""
        found = self.files("out")
        found.pop(NOTE, None)
        return found


def client_of(env):
    return boto3.session.Session().client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"], aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


@pytest.fixture(scope="module", params=["local", "store"])
def bench(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "local":
        made = Bench("local", folder, {})
        yield made
        made.server.stop()
        return
    with running_rclone(folder / "store") as store:
        made = Bench("store", folder, settings(store, folder / "cache"))
        yield made
        made.server.stop()


@pytest.fixture(scope="module")
def undisturbed(bench):
    """The bytes of a build that nobody killed, and of an older one of the same name; no output, no workspace."""
    assert bench.build(path=bench.older) == 0, bench.server.log.read_text()
    older = bench.output
    bench.clear("ws")
    bench.clear("out")
    assert bench.build() == 0, bench.server.log.read_text()
    expected = bench.output
    bench.clear("ws")
    bench.clear("out")
    return older, expected


def points_for(kind):
    return [name for name, point in POINTS.items() if point.only in ("", kind)]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_build_killed_at_each_point_in_turn_ends_with_the_same_bytes(bench, undisturbed, request):
    """One workspace: each run takes up where the one before it died, and dies at the next point."""
    older, expected = undisturbed
    kind = request.node.callspec.params["bench"]
    for point in [name for name in points_for(kind) if name not in WHILE_PUBLISHED]:
        assert bench.build(point) == -signal.SIGKILL, f"{point} was not met: {bench.server.log.read_text()}"
        assert LEDGER not in bench.output, f"{point}: a mixture can be seen"
    assert bench.build() == 0, bench.server.log.read_text()
    assert bench.output == expected
    for point in [name for name in points_for(kind) if name in WHILE_PUBLISHED]:
        bench.clear("out")
        bench.put("out", older)
        assert bench.build(point) == -signal.SIGKILL, f"{point} was not met: {bench.server.log.read_text()}"
        seen = bench.output
        assert seen in (older, expected) or LEDGER not in seen, f"{point}: half a mixture can be seen"
        assert bench.build() == 0, bench.server.log.read_text()
        assert bench.files("out") == expected, point
    assert bench.server.run(["clean", bench.path, *bench.places]) == 0
    assert not bench.attempts()


KILLS_ITS_WORKER_ONCE = """
import os, sys

from pipeline.runtime import rows

whole = rows.write_rows

def write_rows(path, outcomes):
    whole(path, outcomes)
    if "default_worker.py" in sys.argv[0] and not os.path.exists(os.environ["KILLED"]):
        open(os.environ["KILLED"], "x").close()
        os.kill(os.getpid(), 9)

rows.write_rows = write_rows
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_worker_killed_when_it_has_uploaded_its_part_changes_nothing(tmp_path):
    """On Ray, into a store: the driver never hears of that upload, and has the part done again."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(KILLS_ITS_WORKER_ONCE)
    plain = Bench("local", tmp_path / "plain", {})
    assert plain.build() == 0, plain.server.log.read_text()
    plain.server.stop()
    with running_rclone(tmp_path / "store") as store:
        env = {**environment(), **settings(store, tmp_path / "cache"), "KILLED": str(tmp_path / "killed")}
        paths = [str(tmp_path / "hook"), str(Path(__file__).parents[2])]
        places = ["--workspace", f"s3://{BUCKET}/ws", "--output", f"s3://{BUCKET}/out"]
        command = ["build", plain.path, *places, "--runner", "ray", "--workers", "2"]
        done = mixture(*command, env={**env, "PYTHONPATH": os.pathsep.join(paths)})
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "killed").exists(), "no worker was killed: the test proved nothing"
        assert contents(store.folder / "out") == plain.output
        assert mixture("clean", plain.path, *places, env=env).returncode == 0
        assert not [path for path in store.folder.rglob(".attempt-*") if path.is_file()]
