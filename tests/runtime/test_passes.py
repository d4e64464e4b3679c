"""Laws of a pass: conservation, resume, fingerprint, and equality of the runners."""

import multiprocessing
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_stages import CannotSetUp, Echo, Loses, Misconfigured, Raises, Reloads, SetsUpForEver, Upper, toy_sample

from pipeline.runtime.contract import BudgetError, ContractError, run_chain
from pipeline.runtime.local import LocalRunner
from pipeline.runtime.located import Located
from pipeline.runtime.passes import Pass, check_budget, outcomes, run_pass
from pipeline.runtime.ray import RayRunner
from pipeline.runtime.workspace import Work, Workspace
from schemas.base import InputError
from schemas.rejection import Reason, Rejection
from schemas.sample import Sample


def quiet(done: int, total: int) -> None:
    """Progress that nobody watches."""


CHAIN = (Upper(), Echo())


def toy_pass(texts, stages=CHAIN, part_size=3, config=None):
    samples = [toy_sample(f"k{index:03d}", text) for index, text in enumerate(texts)]
    return Pass("toy", tuple(stages), config, samples, (), part_size)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def ray_runner():
    # Ray's workers are other processes: they find the toy stages by the path.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with RayRunner(workers=2, call_deadline_s=60) as runner:
        yield runner


@given(st.lists(st.sampled_from(["a", "refuse"]), max_size=12))
def test_a_chain_answers_every_key_once_and_a_refused_record_skips_the_rest(texts):
    samples = [toy_sample(f"k{index}", text) for index, text in enumerate(texts)]
    answers = run_chain([Upper(), Echo()], samples)
    assert [answer.key for answer in answers] == [sample.key for sample in samples]
    assert [isinstance(answer, Rejection) for answer in answers] == [text == "refuse" for text in texts]


def test_a_stage_that_loses_a_record_stops_the_run():
    with pytest.raises(ContractError, match="k1"):
        run_chain([Loses()], [toy_sample("k0"), toy_sample("k1")])


def test_a_pass_keeps_its_outcomes_in_the_order_of_its_inputs(tmp_path):
    done = run_pass(Workspace(tmp_path), toy_pass(["a", "refuse", "b", "c"]), LocalRunner(), quiet)
    assert [sample.key for sample in outcomes(done, Sample)] == ["k000", "k002", "k003"]
    assert [refused.key for refused in outcomes(done, Rejection)] == ["k001"]
    assert [(part.inputs, part.outputs, part.rejected) for part in done.manifest.parts] == [(3, 2, 1), (1, 1, 0)]
    assert Located([done])["k003"]().annotations[0].text == "C"


def test_a_finished_pass_is_not_run_again(tmp_path):
    run_pass(Workspace(tmp_path), toy_pass(["a"], [Upper()]), LocalRunner(), quiet)

    class Fails:
        def run(self, stages, jobs):
            raise AssertionError("ran again")

    run_pass(Workspace(tmp_path), toy_pass(["a"], [Upper()]), Fails(), quiet)


def test_a_resumed_pass_runs_only_the_parts_that_are_missing(tmp_path):
    whole = run_pass(Workspace(tmp_path / "whole"), toy_pass("abcdefgh"), LocalRunner(), quiet)
    cut = run_pass(Workspace(tmp_path / "cut"), toy_pass("abcdefgh"), LocalRunner(), quiet)
    (cut.folder / "manifest.json").unlink()
    (cut.folder / "parts" / "00001.arrow").unlink()
    ran = []

    class Watch(LocalRunner):
        def run(self, stages, jobs):
            jobs = list(jobs)
            ran.extend(job.path.name for job in jobs)
            return super().run(stages, jobs)

    resumed = run_pass(Workspace(tmp_path / "cut"), toy_pass("abcdefgh"), Watch(), quiet)
    assert ran == ["00001.arrow"]
    assert files(resumed.folder) == files(whole.folder)


def test_a_part_that_answers_other_keys_is_never_accepted(tmp_path):
    done = run_pass(Workspace(tmp_path), toy_pass("abcdef"), LocalRunner(), quiet)
    (done.folder / "manifest.json").unlink()
    parts = done.folder / "parts"
    (parts / "00000.arrow").write_bytes((parts / "00001.arrow").read_bytes())
    with pytest.raises(ContractError, match="k003"):
        run_pass(Workspace(tmp_path), toy_pass("abcdef"), LocalRunner(), quiet)


@pytest.mark.parametrize("other", [{"config": 1}, {"part_size": 2}, {"stages": [Upper()]}])
def test_whatever_changes_the_result_changes_the_fingerprint(other):
    assert toy_pass("ab", **other).work.fingerprint != toy_pass("ab").work.fingerprint


def test_the_budget_counts_all_artefacts_of_a_stage_together(tmp_path):
    done = run_pass(Workspace(tmp_path), toy_pass(["a", "refuse", "b", "c"]), LocalRunner(), quiet)
    check_budget("toy", [done], Fraction(1, 4))  # 1 of 4 is within a quarter
    with pytest.raises(BudgetError, match=r"1 of 4 \(25.0%\)"):
        check_budget("toy", [done], Fraction(24, 100))
    check_budget("toy", [done], Fraction(1, 10), passed=6)  # six went through in an earlier build
    with pytest.raises(BudgetError, match=r"1 of 9 "):
        check_budget("toy", [done], Fraction(1, 10), passed=5)


def test_ray_gives_the_bytes_of_the_local_runner(tmp_path, ray_runner):
    texts = ["refuse" if index % 5 == 3 else f"text {index}" for index in range(40)]
    local = run_pass(Workspace(tmp_path / "local"), toy_pass(texts), LocalRunner(), quiet)
    on_ray = run_pass(Workspace(tmp_path / "ray"), toy_pass(texts), ray_runner, quiet)
    assert files(local.folder) == files(on_ray.folder)


def test_a_worker_that_dies_once_is_replaced_and_its_batch_redone(tmp_path, ray_runner):
    (tmp_path / "marks").mkdir()
    stages = (Upper(), Echo(str(tmp_path / "marks")))
    done = run_pass(Workspace(tmp_path), toy_pass(["a", "kill once", "b", "c"], stages), ray_runner, quiet)
    assert [outcome.annotations[0].text for outcome in outcomes(done, Sample)] == ["A", "KILL ONCE", "B", "C"]
    sizes = (tmp_path / "marks" / "sizes").read_text().split()
    # The batch of one may have shared the worker that died, and then it is done again too.
    assert sorted(sizes) in (["1", "3"], ["1", "1", "3"]), (
        "the batch is redone as a whole before its records are tried alone"
    )


@pytest.mark.slow
def test_the_others_work_while_a_dead_worker_is_replaced(tmp_path, ray_runner):
    (tmp_path / "marks").mkdir()
    job_pass = toy_pass(["a"] * 20 + ["kill once"] + ["a"] * 40, [Upper(), Reloads(str(tmp_path / "marks"))], 1)
    done = run_pass(Workspace(tmp_path), job_pass, ray_runner, quiet)
    assert len(list(outcomes(done, Sample))) == 61
    events = (tmp_path / "marks" / "events").read_text().split()
    begins = [number for number, event in enumerate(events) if event == "begins"]
    after = events[begins[2] :]  # which may end before the new worker is ready
    assert after[: after.index("ready") if "ready" in after else len(after)].count("batch") > 10


def test_a_record_that_kills_its_worker_each_time_is_rejected_alone(tmp_path, ray_runner):
    done = run_pass(Workspace(tmp_path), toy_pass(["a", "kill", "b", "c"]), ray_runner, quiet)
    assert [sample.key for sample in outcomes(done, Sample)] == ["k000", "k002", "k003"]
    assert [(r.key, r.reason) for r in outcomes(done, Rejection)] == [("k001", Reason.POISON)]


@pytest.mark.slow
def test_a_neighbour_of_a_record_that_kills_its_worker_is_never_blamed(tmp_path, ray_runner):
    """One actor, which has a batch of one record in work and another one waiting."""
    with RayRunner(workers=1, call_deadline_s=60) as runner:
        done = run_pass(Workspace(tmp_path), toy_pass(["a", "kill", "b", "kill", "c"], part_size=1), runner, quiet)
    assert [sample.key for sample in outcomes(done, Sample)] == ["k000", "k002", "k004"]
    assert [refused.key for refused in outcomes(done, Rejection)] == ["k001", "k003"]


@pytest.mark.parametrize(("stage", "words"), [(CannotSetUp(), "no such model"), (Raises(), "a bug")])
def test_a_bug_in_a_stage_stops_the_run_with_its_cause(tmp_path, ray_runner, stage, words):
    with pytest.raises(Exception, match=words):
        run_pass(Workspace(tmp_path), toy_pass("ab", [stage]), ray_runner, quiet)


@pytest.mark.parametrize("where", ["setup", "process"])
def test_a_users_mistake_arrives_from_a_worker_as_it_was_told(tmp_path, ray_runner, where):
    with pytest.raises(InputError) as told:
        run_pass(Workspace(tmp_path), toy_pass("ab", [Misconfigured(where)]), ray_runner, quiet)
    assert str(told.value) == "weights 'x': mend them"


def test_a_worker_that_never_gets_ready_stops_the_run_within_a_bound(tmp_path, ray_runner, monkeypatch):
    monkeypatch.setattr("pipeline.runtime.ray.SETUP_DEADLINE_S", 1.0)
    with pytest.raises(TimeoutError, match="no worker was set up within 1 s"):
        run_pass(Workspace(tmp_path), toy_pass("ab", [SetsUpForEver()]), ray_runner, quiet)


def test_other_inputs_make_another_fingerprint():
    assert toy_pass("abc").work.fingerprint != toy_pass("ab").work.fingerprint


def test_nothing_of_a_killed_whole_dataset_step_is_seen(tmp_path):
    work = Work("step", 1, {})

    def die(folder: Path) -> dict[str, int]:
        (folder / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    child = multiprocessing.get_context("fork").Process(target=lambda: Workspace(tmp_path).once(work, die))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert Workspace(tmp_path).find(work) is None
    done = Workspace(tmp_path).once(work, lambda folder: {"made": (folder / "whole").write_text("whole")})
    assert sorted(files(done.folder)) == ["manifest.json", "whole"]


def test_a_finished_step_is_found_again_and_not_rebuilt(tmp_path):
    def fails(folder: Path) -> dict[str, int]:
        raise AssertionError("built again")

    first = Workspace(tmp_path).once(Work("step", 1, {}), lambda folder: {"made": 1})
    assert Workspace(tmp_path).once(Work("step", 1, {}), fails).manifest == first.manifest


def test_importing_the_local_runner_needs_no_ray():
    probe = "import sys, pipeline.runtime.passes; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
