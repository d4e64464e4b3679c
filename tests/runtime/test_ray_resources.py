"""The Ray runner on a cluster with (pretended) GPUs and little memory, in a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.runtime.ray import STORE_SHARE

CODE = """
import json, sys
import ray
from pathlib import Path
from test_passes import quiet, toy_pass
from toy_stages import OnGpu, Slow, Swells, Upper, WithGpus
from pipeline.runtime import ray as runtime
from pipeline.runtime.passes import outcomes, run_pass
from pipeline.runtime.workspace import Workspace
from schemas.rejection import Rejection
from schemas.sample import Sample

folder, gpus, gpu_workers, scene = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
ray.init(num_cpus=8, num_gpus=gpus, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False)
runtime.SETUP_DEADLINE_S = 60
seen, plain = [], runtime._Run._collect
def collect(run):
    seen.append([run._bound_bytes, max(pool.waiting_bytes for pool in run._pools)])
    return plain(run)
runtime._Run._collect = collect
if scene == "poison":
    job = toy_pass(["a", "kill", "b", "c"], (Upper(), OnGpu(folder)))
elif scene.startswith("whole"):
    job = toy_pass(["a", "kill", *"bcdefgh"], (Upper(), WithGpus(folder, int(scene.split()[1]))), part_size=1)
else:
    job = toy_pass(["a"] * 60, (Swells(), Slow()), part_size=4)
with runtime.RayRunner(workers=2, call_deadline_s=60, gpu_workers=gpu_workers) as runner:
    done = run_pass(Workspace(Path(folder)), job, runner, quiet)
rejected = [r.key for r in outcomes(done, Rejection)]
found = {"kept": len(list(outcomes(done, Sample))), "rejected": rejected, "seen": seen}
(Path(folder) / "found.json").write_text(json.dumps(found))
"""


def run(folder: Path, gpus: int, gpu_workers: int, scene: str) -> dict:
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, str(Path(here).parents[1])])}
    command = [sys.executable, "-c", CODE, str(folder), str(gpus), str(gpu_workers), scene]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert shown.returncode == 0, shown.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "gpu_workers", "used"), [(1, 0, {"0"}), (2, 0, {"0", "1"}), (2, 3, {"0", "1"})])
def test_poison_is_found_though_every_gpu_is_taken(tmp_path, gpus, gpu_workers, used):
    found = run(tmp_path, gpus, gpu_workers, "poison")
    assert (found["kept"], found["rejected"]) == (3, ["k001"])
    assert set((tmp_path / "gpus").read_text().split()) <= used


@pytest.mark.slow
def test_batches_that_wait_never_fill_more_than_their_share_of_the_store(tmp_path):
    found = run(tmp_path, 0, 0, "swell")
    assert (found["kept"], found["rejected"]) == (60, [])
    bounds, waiting = zip(*found["seen"], strict=True)
    assert set(bounds) == {STORE_SHARE * 80 * 2**20 / 2}
    assert max(waiting) <= bounds[0]
    assert max(waiting) >= 4 * 2**20, "something did wait"


@pytest.mark.slow
@pytest.mark.parametrize(("each", "gpu_workers", "used"), [(2, 0, {"0,1", "2,3"}), (4, 0, {"0,1,2,3"})])
def test_each_worker_has_whole_gpus_for_itself_also_after_a_death(tmp_path, each, gpu_workers, used):
    found = run(tmp_path, 4, gpu_workers, f"whole {each}")
    assert (found["kept"], found["rejected"]) == (8, ["k001"])
    assert set((tmp_path / "gpus").read_text().split()) == used


@pytest.mark.slow
def test_more_gpus_than_a_node_has_are_refused_at_once(tmp_path):
    began = time.monotonic()
    with pytest.raises(AssertionError, match="wants 8 GPUs of one node for each worker"):
        run(tmp_path, 4, 0, "whole 8")
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_cluster_without_gpus_runs_a_stage_that_wants_them(tmp_path):
    found = run(tmp_path, 0, 0, "whole 4")
    assert (found["kept"], found["rejected"]) == (8, ["k001"])
