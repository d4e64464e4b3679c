"""Laws of rows that are taken over: the bytes of a pass that made them all, and none made twice."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stages import Echo, Upper, toy_sample

from pipeline.runtime.carried import forget, part_files
from pipeline.runtime.local import LocalRunner
from pipeline.runtime.passes import Pass, outcomes, run_pass
from pipeline.runtime.rows import read_types
from pipeline.runtime.workspace import Workspace
from schemas.base import digest
from schemas.sample import Sample


class Counting(LocalRunner):
    def __init__(self):
        self.asked = []

    def run(self, stages, jobs):
        jobs = list(jobs)
        self.asked += [key for job in jobs for key in job.keys]
        yield from super().run(stages, jobs)


def quiet(done, total):
    """Progress that nobody watches."""


def toy(texts, sources=(), config=None):
    samples = [toy_sample(f"k{key:02d}", text) for key, text in texts.items()]
    return Pass("toy", (Upper(), Echo()), config, samples, sources, 3, digest)


def run(workspace, job_pass):
    runner = Counting()
    done = run_pass(workspace, job_pass, runner, quiet)
    return done, runner.asked


def parts(folder):
    return {path.name: path.read_bytes() for path in part_files(folder)}


def fresh(job_pass):
    with tempfile.TemporaryDirectory() as folder:
        return parts(run(Workspace(Path(folder)), job_pass)[0].folder)


TEXTS = st.dictionaries(st.integers(0, 12), st.sampled_from(["a", "b", "refuse"]), max_size=10)


@settings(max_examples=40)
@given(TEXTS, TEXTS, st.sets(st.integers(0, 12), max_size=5))
def test_what_another_pass_had_is_taken_over_and_the_rest_made_to_the_same_bytes(before, after, forgotten):
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        first, _ = run(workspace, toy(before))
        forget(first.folder, {f"k{key:02d}" for key in forgotten})
        second, asked = run(workspace, toy(after, sources=("0" * 64,)))
        assert parts(second.folder) == fresh(toy(after))
        known = {key for key in before.keys() - forgotten if after.get(key) == before[key]}
        assert asked == [f"k{key:02d}" for key in after if key not in known]


@settings(max_examples=40)
@given(TEXTS, st.sets(st.integers(0, 12), max_size=5))
def test_a_pass_of_which_rows_were_forgotten_makes_just_those_again(texts, forgotten):
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        done, _ = run(workspace, toy(texts))
        there = [key for key in texts if key in forgotten]
        assert forget(done.folder, {f"k{key:02d}" for key in forgotten}) == len(there)
        assert (workspace.find(toy(texts).work) is None) == bool(there)
        again, asked = run(workspace, toy(texts))
        assert asked == [f"k{key:02d}" for key in there]
        assert parts(again.folder) == fresh(toy(texts))


def test_rows_of_other_stages_or_settings_are_not_taken_over(tmp_path):
    workspace = Workspace(tmp_path)
    run(workspace, toy({1: "a"}))
    _, asked = run(workspace, toy({1: "a", 2: "b"}, config="another"))
    assert asked == ["k01", "k02"]


def test_a_pass_that_was_killed_is_taken_from_as_far_as_it_came(tmp_path):
    workspace = Workspace(tmp_path)
    done, _ = run(workspace, toy(dict.fromkeys(range(6), "a")))
    (done.folder / "manifest.json").unlink()
    part_files(done.folder)[1].unlink()
    _, asked = run(workspace, toy(dict.fromkeys(range(7), "a")))
    assert asked == ["k03", "k04", "k05", "k06"]


def test_a_part_that_took_rows_over_stands_on_its_own(tmp_path):
    workspace = Workspace(tmp_path)
    first, _ = run(workspace, toy({1: "a", 2: "b"}))
    second, _ = run(workspace, toy({1: "a", 2: "b", 3: "c"}))
    shutil.rmtree(first.folder)
    assert [sample.annotations[0].text for sample in outcomes(second, Sample)] == ["A", "B", "C"]
    assert [key for path in part_files(second.folder) for key, _ in read_types(path)] == ["k01", "k02", "k03"]
