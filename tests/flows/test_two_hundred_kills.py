"""Law 4 at random moments, in a store behind a proxy that misbehaves: 4 x 50 kills, each followed by the same run.

A kill comes at a random step of storage, or at a random time; to the driver, to all of its processes at once, or to
a worker alone (then the build goes on). Seeds are fixed: what fails can be run again.
"""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psutil
import pytest
from fork_server import TESTS
from moto_server import running_moto
from store_server import settings
from test_crash_points import Bench, client_of

from flows.publish_objects import NOTE
from schemas.ledger import LEDGER

RUNS, KILLS, AT_ONCE = 4, 50, 2
SAMPLES = 10
FAULT_RATE = 0.02
MOST_STEPS = 30
"""A run that dies at a step dies at one of its first so many, so that several die before one ends."""
MOST_SECONDS = 4.0


class Proxy:
    """The fault proxy in a process of its own."""

    def __init__(self, to: str, seed: int) -> None:
        command = [sys.executable, TESTS / "fault_proxy.py", "--to", to, "--seed", seed, "--rate", FAULT_RATE]
        self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        self.endpoint = self._process.stdout.readline().strip()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def killed(bench, rng):
    """Runs one build that is to be killed; its exit status."""
    kind = rng.choice(["step", "step", "step", "all", "driver", "worker"])
    if kind == "step":
        return bench.server.run(
            ["build", bench.path, *bench.places], (rng.randint(1, MOST_STEPS), rng.random() < 0.5)
        )
    pid = bench.server.start(["build", bench.path, *bench.places])
    time.sleep(rng.uniform(0.05, MOST_SECONDS))
    try:
        if kind == "all":
            os.killpg(pid, signal.SIGKILL)
        elif kind == "driver":
            os.kill(pid, signal.SIGKILL)
        elif children := psutil.Process(pid).children(recursive=True):
            rng.choice(children).kill()
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass  # it had ended by itself
    return bench.server.status()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The data, and the bytes of a build of them on a plain disk."""
    bench = Bench("local", tmp_path_factory.mktemp("expected"), {}, total=SAMPLES)
    assert bench.build() == 0, bench.server.log.read_text()
    bench.server.stop()
    return bench.data, bench.output


def begin_anew(bench, finished):
    """Forgets the finished mixture and what it was packed of; each third time all else too."""
    for name in ("out", "ws/mixture", "ws/report", "ws/shards", "ws/columns") if finished % 3 else ("out", "ws"):
        bench.clear(name)


def kill_fifty_times(folder, undisturbed, seed):
    """Builds in a store of its own that are killed until there were enough; how many ended in between."""
    (data, expected), rng = undisturbed, random.Random(seed)
    hits = finished = 0
    with ExitStack() as stack:
        store = stack.enter_context(running_moto())
        proxy = Proxy(store.endpoint, seed)
        stack.callback(proxy.stop)
        env = {**settings(store, folder / "cache"), "AWS_ENDPOINT_URL": proxy.endpoint}
        bench = Bench("store", folder, env, data, SAMPLES)
        stack.callback(bench.server.stop)
        bench.client = client_of(settings(store, folder / "cache"))  # what the test itself asks meets no fault
        while hits < KILLS:
            status = killed(bench, rng)
            hits += status == -signal.SIGKILL
            seen = bench.output
            assert LEDGER not in seen or seen == expected, "half a mixture can be seen"
            if status != -signal.SIGKILL:
                assert status == 0, bench.server.log.read_text()
                assert seen == expected
                finished += 1
                begin_anew(bench, finished)
        assert bench.build() == 0, bench.server.log.read_text()
        assert bench.output == expected
        assert NOTE not in bench.files("out")
        assert bench.server.run(["clean", bench.path, *bench.places]) == 0
        assert not bench.attempts()
    return finished


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_kills_under_faulty_stores_lose_and_double_nothing(undisturbed, tmp_path):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(kill_fifty_times, tmp_path / str(seed), undisturbed, seed) for seed in range(RUNS)]
        finished = [run.result() for run in runs]
    assert all(finished), "no build ended between the kills: the test says nothing about what they leave"
