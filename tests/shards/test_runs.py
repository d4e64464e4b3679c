"""Samples that lie one behind the other are read together, and each has what it would have alone."""

import pytest
import shard_factory as made
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.shards.joined import JoinedIndex
from pipeline.shards.payloads import GAP_BYTES, LocalTar
from pipeline.shards.runs import Run
from pipeline.shards.streamed import Wanted

SAMPLES = 40


class Recorder:
    """Tars that note what is read of them."""

    def __init__(self, folder):
        self.folder, self.tars, self.sizes = folder, {}, []

    def of(self, row):
        return self.tars.setdefault(row.shard, Recorded(self.folder / row.shard, self.sizes))


class Recorded(LocalTar):
    def __init__(self, path, sizes):
        super().__init__(path)
        self._sizes = sizes

    def read(self, start, size):
        self._sizes.append(size)
        return super().read(start, size)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made.build_with_column(folder)
    return Wanted(JoinedIndex(folder / "mixture", "train"), tuple(made.NAMES), frames=True)


def runs_of(wanted, tars, positions, most):
    found = []
    for position in positions:
        sample = wanted.located(position, tars)
        if not (found and found[-1].take(sample, most)):
            found.append(Run(sample))
    return found


@settings(max_examples=60)
@given(
    st.one_of(st.permutations(range(SAMPLES)), st.lists(st.integers(0, SAMPLES - 1)), st.just(range(SAMPLES))),
    st.sampled_from([0, 5_000, 20_000, 10**9]),
)
def test_each_sample_has_what_it_has_alone_and_a_run_reads_what_it_said(wanted, positions, most):
    tars = Recorder(wanted.index.folder)
    found = runs_of(wanted, tars, positions, most)
    assert [sample.position for run in found for sample in run.samples] == list(positions)
    for run in found:
        tars.sizes.clear()
        read = run.read()
        assert sum(tars.sizes) == run.size
        assert len(run.samples) == 1 or run.size <= most
        alone = [sample.read() for sample in run.samples]
        assert [[dict(p) for p in parts] for parts in read] == [[dict(p) for p in parts] for parts in alone]


def test_what_lies_in_a_row_takes_one_read_a_tar(wanted):
    tars = Recorder(wanted.index.folder)
    found = runs_of(wanted, tars, range(SAMPLES), 10**9)
    for run in found:
        run.read()
    assert len(found) == 4, "tars of the samples"
    assert len(tars.sizes) == len(tars.tars) == 8, "and as many of the column"


def test_whoever_keeps_a_sample_keeps_the_memory_of_no_other(wanted):
    (run,) = runs_of(wanted, Recorder(wanted.index.folder), range(2), 10**9)
    for sample, parts in zip(run.samples, run.read(), strict=True):
        held = {id(payload.obj): payload.obj.nbytes for payloads in parts for payload in payloads.values()}
        assert sum(held.values()) == Run(sample).size


@pytest.mark.parametrize(("gap", "number"), [(0, SAMPLES), (GAP_BYTES, 4)])
def test_what_lies_behind_a_longer_gap_is_read_apart(wanted, monkeypatch, gap, number):
    """Of the JSON alone, with arrays in between."""
    monkeypatch.setattr("pipeline.shards.payloads.GAP_BYTES", gap)
    texts = Wanted(wanted.index, (), frames=False)
    assert len(runs_of(texts, Recorder(wanted.index.folder), range(SAMPLES), 10**9)) == number
