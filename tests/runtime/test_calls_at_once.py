"""Stages that take several batches at once: the same outcomes, no barrier, and an end in time."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_passes import files, quiet, toy_pass
from toy_stages import Deadly, Restless, Upper, Waits

from pipeline.runtime.contract import calls_at_once
from pipeline.runtime.local import LocalRunner
from pipeline.runtime.passes import outcomes, run_pass
from pipeline.runtime.ray import RayRunner
from pipeline.runtime.workspace import Workspace
from schemas.rejection import Rejection
from schemas.sample import Sample


@pytest.fixture(scope="module")
def ray_runner():
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with RayRunner(workers=2, call_deadline_s=60) as runner:
        yield runner


def one_by_one(folder, texts):
    return files(run_pass(Workspace(folder), toy_pass(texts, [Upper()]), LocalRunner(), quiet).folder)


def working(folder):
    return [int(line) for line in (folder / "working").read_text().split()]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["a", "b", "refuse"]), max_size=40), st.integers(1, 9))
def test_any_number_of_calls_gives_the_bytes_of_one(tmp_path_factory, texts, number):
    folder = tmp_path_factory.mktemp("calls")
    many = run_pass(Workspace(folder / "many"), toy_pass(texts, [Restless(number)]), LocalRunner(), quiet)
    assert files(many.folder) == one_by_one(folder / "one", texts)


@pytest.mark.parametrize("number", [1, 2, pytest.param(5, marks=pytest.mark.slow)])
def test_ray_gives_these_bytes_too_and_a_worker_makes_no_more_calls_than_its_stage_takes(
    tmp_path, ray_runner, number
):
    texts = ["refuse" if index % 5 == 3 else f"text {index}" for index in range(90)]
    stage = Restless(number, str(tmp_path), longest_s=0.05)
    done = run_pass(Workspace(tmp_path / "ray"), toy_pass(texts, [stage]), ray_runner, quiet)
    assert files(done.folder) == one_by_one(tmp_path / "one", texts)
    assert max(working(tmp_path)) == number


def test_local_calls_are_as_many_as_the_stage_takes_and_jobs_come_back_in_order(tmp_path):
    jobs = toy_pass(["a"] * 60, part_size=2).jobs(tmp_path)
    (tmp_path / "parts").mkdir()
    ran = [done.job for done in LocalRunner().run([Restless(4, str(tmp_path))], jobs)]
    assert ran == jobs
    assert max(working(tmp_path)) == 4


def test_a_chain_makes_as_many_calls_as_its_most_timid_stage():
    assert calls_at_once([Restless(5), Restless(3)]) == 3
    assert calls_at_once([Restless(5), Upper()]) == 1


def test_no_call_waits_for_the_jobs_before_it_to_be_told(tmp_path):
    """Three calls meet: the first job's, and two later ones'. A barrier between groups of jobs would hang here."""
    job_pass = toy_pass(["a"] * 9, [Waits(meet=3)], part_size=1)
    assert len(run_pass(Workspace(tmp_path), job_pass, LocalRunner(), quiet).manifest.parts) == 9


@pytest.mark.timeout(30)
def test_the_first_failure_ends_a_local_run_though_calls_before_it_wait_and_the_stage_is_closed(tmp_path):
    stage = Waits()
    with pytest.raises(ZeroDivisionError):
        run_pass(
            Workspace(tmp_path),
            toy_pass(["a", "b", "fail", "c"], [stage], 1),
            LocalRunner(),
            quiet,
        )
    assert stage.closed == 1


@pytest.mark.timeout(120)
def test_a_failure_ends_a_ray_run_though_other_calls_of_its_worker_wait(tmp_path, ray_runner):
    with pytest.raises(Exception, match="a bug"):
        run_pass(Workspace(tmp_path), toy_pass(["a", "fail", "b"], [Waits()], 1), ray_runner, quiet)


@pytest.mark.slow
def test_whoever_shares_a_worker_with_poison_is_not_blamed(tmp_path, ray_runner):
    texts = ["a", "b", "kill", "c", "d", "e", "kill", "f", "g", "h"]
    stages = (Upper(), Deadly(str(tmp_path), calls_at_once=4))
    done = run_pass(Workspace(tmp_path), toy_pass(texts, stages, part_size=1), ray_runner, quiet)
    assert [refused.key for refused in outcomes(done, Rejection)] == ["k002", "k006"]
    assert len(list(outcomes(done, Sample))) == 8


@pytest.mark.parametrize(
    ("poison", "deaths"),
    [
        ([11], [16, 16, 8, 4, 2, 1, 1]),
        pytest.param([0, 1], [16, 16, 8, 4, 2, 1, 1, 1, 1], marks=pytest.mark.slow),
    ],
)
def test_poison_is_found_by_halves(tmp_path, ray_runner, poison, deaths):
    texts = ["kill" if index in poison else "a" for index in range(16)]
    done = run_pass(Workspace(tmp_path), toy_pass(texts, (Upper(), Deadly(str(tmp_path))), 16), ray_runner, quiet)
    assert [refused.key for refused in outcomes(done, Rejection)] == [f"k{index:03d}" for index in poison]
    assert [each.key for each in outcomes(done, Sample)] == [f"k{n:03d}" for n in range(16) if n not in poison]
    assert sorted(map(int, (tmp_path / "deaths").read_text().split()), reverse=True) == deaths
    assert {path.suffix for path in (done.folder / "parts").iterdir()} == {".arrow"}, "no piece is left"
