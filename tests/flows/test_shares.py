"""Laws of `--shares`: the paper's Table 13 to the tenth of a percent, exact counts, and nothing else is changed."""

import json
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mini import mixture
from test_presets import by_modality

from flows.planning import load_workload, with_shares
from flows.recipe_file import load_recipe, settle
from flows.shares_file import find_shares, named_shares
from flows.yaml_file import FileError
from pipeline.plan.quotas import apportion, quotas
from schemas.base import InputError
from schemas.plan import Stratum
from schemas.sample import Modality, Split
from schemas.shares import ORDER, SharesRow, SharesTable

TABLE_13 = """
25/25/25/25 54.1, 15/25/20/40 59.0, 15/32.5/20/32.5 57.1, 15/40/20/25 56.2, 7/38.7/20/34.3 53.0, 7/55/20/18 48.3,
7/18/48/27 50.9, 7/0/0/93 41.8, 7/0/20/73 45.1, 7/14/18/61 51.2, 5/10/40/45 50.4, 2/30/30/38 48.7,
0/38.7/20/41.3 47.5
"""
SOURCES = {m: f"sft-{m.value.replace('_', '-')}" for m in Modality}
NONE = {"output": None, "workspace": None, "workers": None, "runner": None}


def test_every_row_of_the_papers_table_13_is_at_hand_with_its_score():
    rows = dict(row.split() for row in TABLE_13.split(","))
    found = {
        "/".join(f"{float(row.shares[m]):g}" for m in ORDER): f"{float(row.scores['overall']):.1f}"
        for row in named_shares().values()
    }
    assert found == rows
    assert len(rows) == 13


@pytest.mark.parametrize("name", sorted(named_shares()))
def test_a_row_sums_to_a_hundred_and_gives_exact_counts(name):
    row = named_shares()[name]
    assert sum(row.shares.values()) == 100
    text, video = (int(float(row.shares[m])) for m in (Modality.TEXT, Modality.VIDEO))
    assert name == f"t{text}-v{video}"
    for total in (750_000, 3_200_000):  # of the paper's ablations, and of sft
        counts = apportion(total, {m.value: share for m, share in row.shares.items()})
        assert counts == {m.value: total * share / 100 for m, share in row.shares.items()}
    recipe = settle(load_recipe("sft"), **NONE, shares=name)
    plenty = {Stratum(split=Split.TRAIN, modality=m, source=source): 10**7 for m, source in SOURCES.items()}
    found = by_modality({q.stratum: q.samples for q in quotas(recipe.mixture, plenty)})
    assert found == {m.value: 3_200_000 * share / 100 for m, share in row.shares.items()}
    untouched = load_recipe("sft")
    assert recipe.model_copy(update={"mixture": untouched.mixture}) == untouched
    assert recipe.mixture.model_copy(update={"shares": untouched.mixture.shares}) == untouched.mixture


def test_shares_are_given_by_name_or_as_they_are_written():
    assert find_shares("t15-v40") == find_shares("15/25/20/40") == find_shares("15.0/25/20/40")
    assert find_shares("15/32.5/20/32.5")[Modality.IMAGE] == Fraction(65, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("t15", "no mixture is named 't15'; give text/image/multi-image/video, or one of t25-v25"),
        ("1/2/3", "'1/2/3': not four shares"),
        ("1/2/3/90", "'1/2/3/90': shares sum to 96, must be exactly 100"),
        ("a/2/3/90", "expected a number"),
        ("-5/15/20/70", "'-5/15/20/70': Input should be greater than or equal to 0"),
    ],
)
def test_bad_shares_are_told_with_the_mend(text, words):
    with pytest.raises(FileError, match="--shares") as error:
        settle(load_recipe("sft"), **NONE, shares=text)
    assert words in str(error.value)


def test_a_table_whose_row_does_not_sum_is_refused():
    with pytest.raises(ValueError, match="shares sum to 99"):
        SharesTable.model_validate({"name": "x", "basis": "a test", "rows": {"a": {"shares": "1/2/3/93"}}})


quarters = st.lists(st.integers(0, 100), min_size=3, max_size=3).map(sorted)


@given(quarters, st.sampled_from(["sft", "sft-paper", "apollo-4m"]))
def test_a_statement_in_other_shares_asks_for_what_the_recipe_would(cuts, name):
    parts = [after - before for before, after in pairwise([0, *cuts, 100])]
    shares = SharesRow.model_validate({"shares": "/".join(map(str, parts))}).shares
    statement = with_shares(load_workload(name), shares)
    found = dict.fromkeys(Modality, 0)
    for part in statement.parts:
        found[part.modality] += part.samples.value
    assert found == apportion(load_recipe(name).mixture.total, shares)
    same = {"parts": load_workload(name).parts}
    assert statement.model_copy(update=same) == load_workload(name)


def test_a_statement_that_lacks_a_modality_says_so():
    with pytest.raises(InputError, match="workload align has no text samples to take 29700: add a part"):
        with_shares(load_workload("align"), find_shares("t15-v40"))


def test_a_study_plans_and_writes_recipes_of_other_shares(tmp_path):
    told = json.loads(mixture("plan", "sft", "--shares", "t15-v40", "--json", cwd=tmp_path).stdout)
    assert {part["part"]: part["samples"] for part in told["parts"]} == {
        "sft/text": 480_000,
        "sft/image": 800_000,
        "sft/multi_image": 640_000,
        "sft/video": 1_280_000,
    }
    path = tmp_path / "own.yaml"
    assert mixture("init", path, "--like", "sft", "--shares", "0/38.7/20/41.3").returncode == 0
    assert load_recipe(str(path)) == settle(load_recipe("sft"), **NONE, shares="t0-v41")
    done = mixture("build", "sft", "--shares", "1/2/3", cwd=tmp_path)
    assert done.returncode == 2
    assert "'1/2/3': not four shares" in done.stderr
