"""An exclusion list held against a mixture: every sample that it names is found, by the audit's own reading."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_audit import FIRST, keys_of, launder, read_tar, resealed, write_tar
from typer.testing import CliRunner

import pipeline.audit.excluded as own
import pipeline.plan.exclusions as plan
from flows.cli import app
from pipeline.audit.audit import audit
from pipeline.audit.excluded import ExcludedCheck
from pipeline.audit.findings import Code
from schemas.base import sha256_text
from schemas.exclusions import Excluded

LONG = "When the man in the red coat has left the room what does the dog do next"


def listed(*records):
    check = ExcludedCheck()
    assert check.add("bench", (Excluded(**record) for record in records)) == len(records)
    return check


def found(folder, *records, **options):
    counts = audit(folder, excluded=listed(*records), **options).finding_counts
    return {code: number for code, number in counts.items() if code.startswith("excluded_")}


def film_of(folder):
    return next(key for key in keys_of(read_tar(folder / FIRST)) if "-video-" in key)


def changed(folder, change):
    """`change(json)` applied to the first film of the train split."""
    members = read_tar(folder / FIRST)
    at = next(i for i, (n, _) in enumerate(members) if n == f"{film_of(folder)}.json")
    content = json.loads(members[at][1])
    change(content)
    resealed(content)
    members[at] = (members[at][0], json.dumps(content, ensure_ascii=False).encode())
    write_tar(folder / FIRST, members)
    launder(folder)


def test_a_list_that_names_nobody_finds_nothing_and_is_told_among_the_checks(whole):
    report = audit(whole, excluded=listed({"key": "nobody"}, {"question": LONG}, {"media": "x"}))
    assert report.ok
    assert "check_excluded" in report.checks
    assert "check_excluded" not in audit(whole).checks


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_keys_media_and_texts_are_found_however_the_audit_is_run(whole, quick, workers):
    key, film = keys_of(read_tar(whole / FIRST))[0], film_of(whole)
    records = [{"key": key}, {"sha256": sha256_text(f"{film}/0")}, {"question": f"what is IN {film}"}]
    assert found(whole, *records, quick=quick, workers=workers) == {
        Code.EXCLUDED_KEY: 1,
        Code.EXCLUDED_MEDIUM: 1,
        Code.EXCLUDED_TEXT: 1,
    }


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"name": "vids/dQw4.x-9.mp4"}, Code.EXCLUDED_MEDIUM),
        ({"media": "dQw4.x-9.mp4"}, Code.EXCLUDED_MEDIUM),
        ({"media": "dQw4.x-9"}, Code.EXCLUDED_MEDIUM),
        ({"media": "dQw4"}, None),
        ({"media": "vids"}, None),
    ],
)
def test_a_medium_is_known_by_path_file_name_and_stem(folder, record, code):
    changed(folder, lambda content: content["media"][0].update(path="vids/dQw4.x-9.mp4"))
    assert found(folder, record) == ({code: 1} if code else {})


def test_a_later_pass_over_a_source_is_the_candidate_of_the_list(whole):
    key = film_of(whole)
    record = own.ShardSample.model_validate_json(dict(read_tar(whole / FIRST))[f"{key}.json"])
    for epoch, name, codes in [(2, "base-e2", 1), (0, "base-e0", 0), (1, "base-e2", 0), (0, "base", 1)]:
        opened = own.Opened("shard", name, record.model_copy(update={"key": name, "epoch": epoch}), {}, {})
        assert len(list(listed({"key": "base"}).check_excluded(opened, None))) == codes
        assert len(list(listed({"key": name}).check_excluded(opened, None))) == 1


@pytest.mark.parametrize(
    ("text", "records", "number"),
    [
        ("What is THIS?!", [{"question": "what is this"}], 1),
        ("What is this here?", [{"question": "what is this"}], 0),
        (f"Look: {LONG}? A. sits B. runs", [{"question": LONG}], 1),
        (LONG, [{"question": LONG}], 1),
        (" ".join(LONG.split()[:12]), [{"question": LONG}], 0),
        (" ".join(LONG.split()[:13]), [{"question": LONG}], 1),
    ],
)
@pytest.mark.parametrize("where", ["user", "question"])
def test_a_listed_question_is_found_in_user_turns_and_in_questions(folder, text, records, number, where):
    def ask(content):
        if where == "user":
            content["conversations"][0]["content"] = text
        else:
            content["questions"] = [{"question": text, "answer": "a", "topic": "", "evidence": ""}]

    changed(folder, ask)
    assert found(folder, *records) == ({Code.EXCLUDED_TEXT: number} if number else {})


def test_an_answer_that_shares_thirteen_words_is_found_and_one_that_equals_a_short_question_is_not(folder):
    changed(folder, lambda content: content["conversations"][1].update(content=f"He asked: {LONG}"))
    assert found(folder, {"question": LONG}) == {Code.EXCLUDED_TEXT: 1}
    changed(folder, lambda content: content["conversations"][1].update(content="Red"))
    assert found(folder, {"question": "red"}) == {}


@given(st.one_of(st.text(max_size=80), st.text("aß’ﬁİ_-١क\u093f ", max_size=60)))
def test_plan_and_audit_read_a_text_alike(text):
    assert own._words(text) == plan.normal(text).split()
    long = f"{text} {text} {LONG}"
    assert list(own._grams(own._words(long))) == list(plan.runs(plan.normal(long)))


def test_the_command_finds_what_files_name_and_tells_a_bad_line(whole, tmp_path):
    key = keys_of(read_tar(whole / FIRST))[0]
    takedowns, bench = tmp_path / "takedowns.txt", tmp_path / "bench.jsonl"
    takedowns.write_text(f"# asked for\n{key}\n")
    bench.write_text(json.dumps({"sha256": sha256_text(f"{film_of(whole)}/0"), "reason": "ApolloBench"}))
    command = ["audit", str(whole), "--json", "--exclude", str(takedowns), "--exclude", str(bench)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    told = {finding["code"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert told["excluded_key"]["key"] == key
    assert "list takedowns names key" in told["excluded_key"]["message"]
    bench.write_text("{}")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert f"{bench}:1: names nothing" in done.output
