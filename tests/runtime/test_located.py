"""Outcomes on a disk behave as a dictionary in memory would."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stages import Echo, Upper, toy_sample

from pipeline.runtime import located
from pipeline.runtime.local import LocalRunner
from pipeline.runtime.located import Located, Stored
from pipeline.runtime.passes import Pass, outcomes, run_pass
from pipeline.runtime.records import Records, keys_of
from pipeline.runtime.workspace import Workspace
from schemas.rejection import Rejection
from schemas.sample import Sample

CHAIN = (Upper(), Echo())
KEYS = st.lists(st.sampled_from([f"k{i}" for i in range(8)]), unique=True, max_size=8)


def run(folder, keys, number=0, stages=CHAIN, texts="a"):
    samples = [toy_sample(key, text) for key, text in zip(keys, texts * len(keys), strict=False)]
    return run_pass(Workspace(folder), Pass("toy", stages, number, samples, (), 3), LocalRunner(), lambda *_: None)


@given(st.lists(KEYS, max_size=4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_last_outcome_of_a_key_counts_as_in_a_dictionary(tmp_path_factory, waves, collide):
    folder = tmp_path_factory.mktemp("located")
    found, plain = Located(), {}
    with pytest.MonkeyPatch.context() as patch:
        if collide:  # all keys have one hash: found by themselves alone
            patch.setattr(located, "hash", lambda _: 7, raising=False)
        for number, keys in enumerate(waves):
            artefact = run(folder, keys, number, stages=(Upper(),), texts=[f"text of wave {number}"])
            found.add(artefact)
            plain |= {sample.key: sample for sample in outcomes(artefact, Sample)}
            assert {key: read() for key, read in found.items()} == plain
            assert len(found) == len(plain)
        assert "absent" not in found
        with pytest.raises(KeyError):
            found["absent"]
        seen = [key for keys in waves for key in keys]
        assert bool(found.twice()) == (len(set(seen)) < len(seen))


def test_records_of_one_kind_are_there_and_no_others(tmp_path):
    artefact = run(tmp_path, ["a", "b", "c", "d"], texts=["x", "refuse", "y", "z"])
    stored = Stored(Sample)
    stored.add(artefact)
    assert list(stored) == [sample.key for sample in stored.stream()] == ["a", "c", "d"]
    assert stored["d"] == list(stored.stream())[-1]
    assert "b" not in stored
    assert isinstance(Located([artefact])["b"](), Rejection)


def test_a_part_that_was_written_anew_is_read_anew(tmp_path):
    one, other = run(tmp_path / "one", ["a"], texts=["one"]), run(tmp_path / "other", ["a"], texts=["other"])
    found = Located([one])
    assert found["a"]().annotations[0].text == "ONE"
    part = one.folder / "parts" / one.manifest.parts[0].name
    (other.folder / "parts" / one.manifest.parts[0].name).replace(part)
    assert found["a"]().annotations[0].text == "OTHER"


def test_a_pass_over_records_reads_each_once_and_none_for_its_fingerprint(tmp_path):
    read = []

    def sample(key):
        read.append(key)
        return toy_sample(key, "a")

    keys = [f"k{i}" for i in range(7)]
    records = Records(keys, sample)
    lazy, plain = (
        Pass("toy", (Upper(),), None, inputs, (), 3) for inputs in (records, [toy_sample(k, "a") for k in keys])
    )
    assert lazy.work == plain.work
    assert keys_of(records[2:4]) == ["k2", "k3"]
    assert read == []
    done = run_pass(Workspace(tmp_path), lazy, LocalRunner(), lambda *_: None)
    assert read == keys
    assert [each.key for each in outcomes(done, Sample)] == keys
