"""Reads ahead come in order, and hold no more than they may."""

import random
import threading
import time

import pytest

from pipeline.shards.prefetch import TASK_BYTES, THREADS, Task, in_order


class Memory:
    """What is read and not yet taken."""

    def __init__(self):
        self.held = self.most = 0
        self._lock = threading.Lock()

    def add(self, size):
        with self._lock:
            self.held += size
            self.most = max(self.most, self.held)

    def read(self, size, number):
        self.add(size)
        time.sleep(random.random() / 500)
        return number


def taken(sizes, ahead, memory):
    tasks = (Task(n, size, lambda n=n, size=size: memory.read(size, n)) for n, size in enumerate(sizes))
    for tag, result in in_order(tasks, ahead):
        assert tag == result
        memory.add(-sizes[tag])
        yield tag


@pytest.mark.parametrize("ahead", [0, 1, 100_000, 10**9])
def test_results_come_in_order_within_the_bound_and_one_sample(ahead):
    sizes = [random.Random(0).choice([0, 10, 9_000, 60_000]) for _ in range(200)]
    memory = Memory()
    assert list(taken(sizes, ahead, memory)) == list(range(200))
    assert memory.most <= max(ahead, max(sizes))
    assert memory.held == 0


def test_a_slow_consumer_does_not_make_it_hold_more():
    memory = Memory()
    for _ in taken([10_000] * 50, 100_000, memory):
        time.sleep(0.002)
    assert 10_000 < memory.most <= 100_000


def test_tasks_without_bytes_are_bounded_too():
    asked = []
    tasks = (Task(n, 0, lambda: None) for n in range(10**9) if asked.append(n) is None)
    next(in_order(tasks, 100 * TASK_BYTES))
    assert len(asked) <= 102


def test_several_reads_are_under_way_at_once():
    together = threading.Barrier(THREADS, timeout=20)
    assert len(list(in_order((Task(n, 1, together.wait) for n in range(THREADS)), 10**6))) == THREADS


def test_an_error_comes_in_its_turn():
    def fail():
        raise OSError("gone")

    tasks = [Task(0, 1, lambda: "first"), Task(1, 1, fail), Task(2, 1, lambda: "third")]
    results = in_order(iter(tasks), 10**6)
    assert next(results) == (0, "first")
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_who_stops_does_not_wait_for_reads_that_hang():
    release = threading.Event()
    tasks = [Task(0, 1, lambda: None), *(Task(n, 1, lambda: release.wait(60)) for n in range(1, 20))]
    results = in_order(iter(tasks), 10**6)
    next(results)
    begin = time.monotonic()
    results.close()
    release.set()
    assert time.monotonic() - begin < 5
