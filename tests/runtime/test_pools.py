"""Who gets which task: pure decisions, without Ray."""

from itertools import pairwise
from math import ceil, log2
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_stages import Upper, toy_sample

from pipeline.runtime.local import Job
from pipeline.runtime.pools import TRIES, Actor, Pool, Split, Task
from pipeline.runtime.rows import read_rows, write_rows
from schemas.sample import Sample

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


def test_an_actor_that_is_not_set_up_takes_nothing():
    loading = pool(0, 0)
    loading.actors[0].loads_until = 1.0
    assert loading.free_for(task()) is loading.actors[1]
    loading.actors[1].loads_until = 1.0
    assert loading.free_for(task()) is None


@pytest.mark.parametrize(
    ("calls_at_once", "tasks", "turns"), [(1, 1, 1), (1, 2, 2), (4, 1, 1), (4, 4, 1), (4, 5, 2)]
)
def test_the_deadline_of_a_call_counts_those_that_it_waits_for(calls_at_once, tasks, turns):
    """Calls that work side by side each have their deadline from the start; one that waits for a turn has two."""
    some = pool(tasks, calls_at_once=calls_at_once)
    assert some.deadline_s(some.actors[0], 60) == 60 * turns


def find_poison(size, poison):
    """(keys rejected, keys kept, workers that died), if each task with a poison record ends its worker."""
    batch = tuple(toy_sample(f"k{number}") for number in range(size))
    todo, rejected, kept, deaths = [Task(Job(batch, Path("part")), batch, batch)], [], [], 0
    while todo:
        each = todo.pop()
        if not any(int(record.key[1:]) in poison for record in each.batch):
            kept += [record.key for record in each.batch]
            continue
        deaths += 1
        again = each.after_loss()
        todo += again
        rejected += [] if again else [record.key for record in each.batch]
    return rejected, kept, deaths


@given(st.integers(1, 300), st.data())
def test_poison_is_found_by_halves_with_few_deaths_and_nobody_else_is_blamed(size, data):
    poison = data.draw(st.sets(st.integers(0, size - 1), max_size=4))
    rejected, kept, deaths = find_poison(size, poison)
    assert sorted(rejected) == sorted(f"k{number}" for number in poison)
    assert sorted(rejected + kept) == sorted(f"k{number}" for number in range(size))
    assert deaths <= (
        TRIES + len(poison) * (ceil(log2(size)) + TRIES - 1) if poison and size > 1 else 3 * len(poison)
    )


def test_one_poison_record_of_256_ends_eleven_workers():
    assert find_poison(256, {77})[2] == 11


def test_a_batch_of_one_is_poison_after_as_many_deaths_alone_and_one_that_it_may_have_shared():
    assert find_poison(1, {0}) == (["k0"], [], TRIES + 1)


@given(st.data())
def test_pieces_of_a_job_come_together_in_its_order_and_leave_nothing_behind(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("pieces")
    batch = tuple(toy_sample(f"k{number}") for number in range(data.draw(st.integers(1, 9))))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(batch)))) | {0, len(batch)})
    pieces = [batch[start:end] for start, end in pairwise(cuts)]
    split, done = Split(Job(batch, folder / "part.arrow")), []
    for number, piece in data.draw(st.permutations(list(enumerate(pieces)))):
        write_rows(folder / f"{number}", piece)
        done += split.add(piece, folder / f"{number}")
    assert len(done) == 1
    assert list(read_rows(done[0].attempt, Sample)) == list(batch)
    assert list(folder.iterdir()) == [done[0].attempt]
