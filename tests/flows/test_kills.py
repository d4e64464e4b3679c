"""Law 4: SIGKILL at any instant, then the same command again: nothing lost, nothing twice, the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from mini import contents, environment, mini_recipe, mixture, write_recipe


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The recipe, the bytes of a build that nobody killed, and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = mini_recipe(folder)
    recipe["encoders"]["internvideo2"]["store"]["place"] = "column"
    path = write_recipe(folder, recipe)
    began = time.monotonic()
    done = mixture("build", path, env=environment())
    assert done.returncode == 0, done.stderr
    return path, contents(folder / "out"), time.monotonic() - began


def kill_after(seconds: float, arguments: list[str]) -> bool:
    """Starts a build, kills its driver after a while; False if it had ended by then."""
    command = [sys.executable, "-m", "flows.cli", "build", *arguments]
    build = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    try:
        build.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        children = psutil.Process(build.pid).children(recursive=True)
        os.kill(build.pid, signal.SIGKILL)
        build.wait()
    workers = [child for child in children if "pipeline.runtime.isolated" in " ".join(_command_line(child))]
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, f"decoding processes outlived their driver: {alive}"
    return build.returncode == -signal.SIGKILL


def _is_actor(process: psutil.Process) -> bool:
    """Whether it is a worker of ours that is past its setup (Ray writes what an actor does into its title)."""
    title = " ".join(_command_line(process))
    return title.startswith("ray::_Worker") and not any(step in title for step in ("__init__", "set_up"))


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def killed_until_done(undisturbed, folder, kills: int, seed: int, options: list[str]) -> int:
    """Kills one build after another in the same workspace, then lets one end and compares every byte."""
    path, expected, seconds = undisturbed
    arguments = [str(path), "--workspace", str(folder / "ws"), "--output", str(folder / "out"), *options]
    rng = random.Random(seed)
    hit = 0
    for _ in range(kills):
        if kill_after(rng.uniform(0.1, 0.9) * seconds, arguments):
            hit += 1
        else:  # it was done already, and what is done cannot be disturbed: begin anew
            shutil.rmtree(folder / "ws")
            shutil.rmtree(folder / "out")
    done = mixture("build", *arguments, env=environment())
    assert done.returncode == 0, done.stderr
    assert contents(folder / "out") == expected
    return hit


@pytest.mark.slow
def test_a_build_killed_at_random_moments_ends_with_the_same_bytes(undisturbed, tmp_path):
    hit = killed_until_done(undisturbed, tmp_path, kills=3, seed=1, options=["--runner", "local"])
    assert hit > 0, "no kill landed: the test proved nothing"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_many_kills_of_the_local_runner_end_with_the_same_bytes(undisturbed, tmp_path, seed):
    assert killed_until_done(undisturbed, tmp_path, kills=4, seed=100 + seed, options=["--runner", "local"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_many_kills_on_ray_end_with_the_same_bytes(undisturbed, tmp_path, seed):
    killed_until_done(
        undisturbed, tmp_path, kills=3, seed=200 + seed, options=["--runner", "ray", "--workers", "2"]
    )


@pytest.mark.slow
def test_killed_workers_of_a_ray_build_change_nothing(undisturbed, tmp_path):
    """Two actors are killed while they work; the build goes on by itself."""
    path, expected, _ = undisturbed
    arguments = [
        str(path),
        "--workspace",
        str(tmp_path / "ws"),
        "--output",
        str(tmp_path / "out"),
        "--runner",
        "ray",
    ]
    command = [sys.executable, "-m", "flows.cli", "build", *arguments]
    build = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    rng, killed = random.Random(7), 0
    while build.poll() is None and killed < 2:
        time.sleep(0.5)
        actors = [p for p in psutil.Process(build.pid).children(recursive=True) if _is_actor(p)]
        if actors:
            rng.choice(actors).kill()
            killed += 1
    _, errors = build.communicate(timeout=280)
    assert build.returncode == 0, errors
    assert killed > 0, "no worker was killed: the test proved nothing"
    assert contents(tmp_path / "out") == expected
