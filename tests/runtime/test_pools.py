"""Who gets which task: pure decisions, without Ray."""

from pathlib import Path

from toy_stages import Upper, toy_sample

from pipeline.runtime.local import Job
from pipeline.runtime.pools import Actor, Pool, Split, Task

BATCH = (toy_sample("k0"), toy_sample("k1"))
JOB = Job(BATCH, Path("part"))


def task(**state) -> Task:
    return Task(JOB, BATCH, BATCH, **state)


def pool(*loads, calls_at_once=2) -> Pool:
    """Actors with so many tasks each, or with the tasks given."""
    actors = [Actor(None, [task() for _ in range(load)] if isinstance(load, int) else load) for load in loads]
    return Pool((Upper(),), len(loads), {}, calls_at_once, actors=actors)


def test_the_actor_with_the_least_to_do_gets_the_task():
    busy_and_idle = pool(1, 0)
    assert busy_and_idle.free_for(task()) is busy_and_idle.actors[1]
    one_each = pool(1, 1)
    assert one_each.free_for(task()) is one_each.actors[0]


def test_an_actor_takes_as_many_tasks_as_its_pool_allows():
    assert pool(2, 2).free_for(task()) is None
    assert pool(1, calls_at_once=1).free_for(task()) is None


def test_what_may_have_ended_a_worker_shares_its_actor_with_nothing():
    for suspect in (task(tries=1), task(part_of=Split(JOB))):
        assert pool(1).free_for(suspect) is None
        assert pool([suspect]).free_for(task()) is None
        assert pool([suspect]).free_for(task(tries=1)) is None
        idle = pool(0)
        assert idle.free_for(suspect) is idle.actors[0]
