"""LLaVA's annotation file: keys that last, broken lines that cost one entry, and the fingerprint."""

import json
import pickle
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.llava import reading
from pipeline.ingest.llava.source import Llava, make_key
from schemas.base import KEY_PATTERN, InputError, canonical_json
from schemas.rejection import Reason, Rejection
from schemas.sample import Sample
from schemas.sources import LlavaSource

GOOD = {"id": "g", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}


def llava(path, **more):
    spec = {"kind": "llava", "name": "own", "annotations": str(path), "licence": "X", "annotator": "human", **more}
    return Llava(LlavaSource.model_validate(spec))


def outcomes(path):
    source = llava(path)
    return [source.sample(entry, path.parent) for entry in source.entries()]


def keys_of(identities):
    seen, keys = Counter(), []
    for identity in identities:
        keys.append(make_key("own", identity, seen[identity]))
        seen[identity] += 1
    return keys


unicode_ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@given(st.lists(unicode_ids | st.sampled_from(["a", "A", "a.b", "a-b", "x" * 200]), max_size=12))
def test_any_ids_give_keys_that_are_valid_and_all_different(identities):
    keys = keys_of(identities)
    assert len(set(keys)) == len(identities)
    assert all(re.match(KEY_PATTERN, key) for key in keys)


@given(st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,31}\Z"), unicode_ids)
def test_any_source_name_gives_valid_keys(name, identity):
    assert re.match(KEY_PATTERN, make_key(name, identity, 0))
    assert make_key(name, identity, 0).startswith(f"{name}-")


def test_a_key_shows_the_id():
    assert make_key("own", "Café/0012.jpg", 0).startswith("own-cafe-0012-jpg-")


@given(st.data())
def test_keys_in_a_file_are_different_and_stay_when_entries_are_added_or_taken_away(tmp_path_factory, data):
    ids = st.none() | unicode_ids | st.integers() | st.sampled_from(["a", "b"])
    entries = data.draw(st.lists(st.builds(lambda i: {**GOOD, "id": i}, ids), min_size=1, max_size=8))
    path = tmp_path_factory.mktemp("own") / "own.json"

    def keys(some):
        path.write_text(json.dumps(some))
        return [entry.key for entry in llava(path).entries()]

    before = keys(entries)
    assert len(set(before)) == len(entries)
    assert keys([*entries, GOOD, *entries])[: len(entries)] == before
    assert set(keys(entries[1:])) <= set(before)


def test_a_list_and_the_same_entries_as_lines_are_the_same(tmp_path):
    entries = [{**GOOD, "id": index % 3} for index in range(5)]
    (tmp_path / "own.json").write_text(json.dumps(entries, indent=2))
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, entries)))
    one, other = outcomes(tmp_path / "own.json"), outcomes(tmp_path / "own.jsonl")
    assert one == other
    assert all(isinstance(outcome, Sample) for outcome in one)


BROKEN = [
    b'{"id": 1',
    b"not json",
    b"\xff\xfe\xfa",
    b'{"id": "\\ud800", "conversations": []}',
    b'{"id": ' + b"9" * 5_000 + b"}",
    b"[" * 100_000,
    b'{"id": "long", "x": "' + b"y" * 3_000 + b'"}',
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda line: repr(line[:12]))
def test_a_broken_line_is_one_rejection_and_not_the_end(tmp_path, monkeypatch, broken):
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 200_000 if broken[:1] == b"[" else 2_000)
    path, good = tmp_path / "own.jsonl", json.dumps(GOOD).encode()
    path.write_bytes(b"\n".join([good, broken, b"  ", good]))
    first, fault, last = outcomes(path)
    assert isinstance(first, Sample)
    assert isinstance(last, Sample)
    assert isinstance(fault, Rejection)
    assert (fault.reason, fault.stage, fault.where) == (Reason.BAD_ANNOTATION, "ingest", "own.jsonl:2")
    assert "write it as one JSON object" in fault.detail
    assert len({first.key, fault.key, last.key}) == 3
    for entry in llava(path).entries():
        canonical_json(entry.payload).encode()  # whoever writes entries down can


def test_an_entry_of_a_list_that_no_file_can_hold_is_one_rejection(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps([GOOD, {**GOOD, "note": "\ud800"}, GOOD]))
    first, fault, last = outcomes(path)
    assert isinstance(first, Sample)
    assert isinstance(last, Sample)
    assert (fault.reason, fault.where) == (Reason.BAD_ANNOTATION, "own.json[1]")


def test_a_line_of_exactly_the_limit_is_read_and_one_byte_more_is_not(tmp_path, monkeypatch):
    path, good = tmp_path / "own.jsonl", json.dumps(GOOD).encode()
    for limit, fits in ((len(good) + 1, True), (len(good) - 1, False)):
        monkeypatch.setattr(reading, "MAX_LINE_BYTES", limit)
        path.write_bytes(good + b"\n" + good + b"\n")
        assert [isinstance(outcome, Sample) for outcome in outcomes(path)] == [fits, fits]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_know_is_read_as_missing(tmp_path, number):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({**GOOD, "image": 0, "score": 0}).replace(": 0", f": {number}"))
    assert isinstance(outcomes(path)[0], Sample)
    assert next(llava(path).entries()).payload["value"]["image"] is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("own.json", '{"id": 1}\n{"id": 2}', "name it .jsonl"),
        ("own.json", '{"id": 1}', "got dict"),
        ("own.csv", "id", "ending in .json"),
    ],
)
def test_a_file_of_another_form_is_an_error_that_says_what_is_expected(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        list(llava(tmp_path / name).entries())


def test_the_fingerprint_follows_the_bytes_and_the_spec(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps([GOOD]))
    before = llava(path).fingerprint()
    assert llava(path).fingerprint() == before
    assert llava(path, media_root="elsewhere").fingerprint() != before
    path.write_text(json.dumps([GOOD, GOOD]))
    assert llava(path).fingerprint() != before


def test_the_source_reads_nothing_before_it_is_asked_and_travels(tmp_path):
    source = pickle.loads(pickle.dumps(llava(tmp_path / "not-there.json")))  # noqa: S301 - of our own making
    with pytest.raises(InputError, match=r"no annotation file .*not-there\.json"):
        source.fingerprint()
