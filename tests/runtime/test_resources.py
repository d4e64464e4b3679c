"""How many actors a stage has, and what each reserves: pure decisions, without Ray."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_stages import OnGpu, Upper, WithGpus

from pipeline.runtime.resources import Crew, check_gpus, crew_of
from schemas.base import InputError

MANY = 10**6
NODES = st.lists(st.integers(0, 16), min_size=1, max_size=5)


def crew(stage, nodes, workers=2, gpu_workers=0, jobs=MANY):
    return crew_of(stage, nodes, workers, gpu_workers, jobs)


@pytest.mark.parametrize(
    ("nodes", "gpus", "gpu_workers", "workers"),
    [([4], 4, 0, 1), ([4], 2, 0, 2), ([8, 8], 4, 0, 4), ([8, 8], 4, 3, 3), ([8], 4, 9, 2), ([3, 3], 2, 0, 2)],
)
def test_whole_gpus_are_of_one_node_and_gpu_workers_is_the_most(nodes, gpus, gpu_workers, workers):
    found = crew(WithGpus("", gpus), nodes, gpu_workers=gpu_workers)
    assert found == Crew(workers, {"num_cpus": 1, "num_gpus": gpus})


@given(NODES, st.integers(1, 16))
def test_every_worker_with_whole_gpus_finds_its_own_or_the_run_is_refused_at_once(nodes, gpus):
    stage = WithGpus("", gpus)
    if not sum(nodes):
        assert crew(stage, nodes) == Crew(2, {"num_cpus": 1})
    elif max(nodes) < gpus:
        with pytest.raises(InputError, match=f"wants {gpus} GPUs of one node"):
            crew(stage, nodes)
    else:
        left = list(nodes)
        for _ in range(crew(stage, nodes).workers):
            at = next(at for at, free in enumerate(left) if free >= gpus)
            left[at] -= gpus
        assert max(left) < gpus, "no node has room for one more"


def test_a_cluster_without_gpus_gives_cpus_only():
    assert crew(WithGpus("", 8), [0, 0], workers=3) == Crew(3, {"num_cpus": 1})
    assert crew(OnGpu(), [0], workers=3) == Crew(3, {"num_cpus": 1})
    assert crew(Upper(), [8], workers=3) == Crew(3, {"num_cpus": 1})


def test_a_shared_gpu_is_cut_into_equal_parts():
    assert crew(OnGpu(), [2]) == Crew(2, {"num_cpus": 1, "num_gpus": 1})
    assert crew(OnGpu(), [2], gpu_workers=3) == Crew(3, {"num_cpus": 1, "num_gpus": 1 / 2})


def test_no_actor_is_without_a_job():
    assert crew(Upper(), [0], workers=8, jobs=3).workers == 3
    assert crew(WithGpus("", 1), [8], jobs=3).workers == 3


def test_stages_that_want_more_gpus_together_than_there_are_do_not_wait_for_them():
    crews = [crew(WithGpus("", 4), [8]), crew(OnGpu(), [8])]
    check_gpus(crews[:1], [8])
    check_gpus(crews[1:], [8])
    with pytest.raises(InputError, match="want 16 GPUs together, and the cluster has 8"):
        check_gpus(crews, [8])
