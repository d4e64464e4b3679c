"""Laws of MinHash: an estimate of the exact Jaccard index, and near-copies found whatever the order."""

import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversations.minhash import BANDS, NEAR, PERMUTATIONS, near_copies, signature

rng = random.Random(7)
WORDS = [f"w{number}" for number in range(4_000)]
ORIGINALS = [" ".join(rng.choices(WORDS, k=rng.randint(30, 150))) for _ in range(300)]


def shingles(text: str) -> set[tuple[str, ...]]:
    """The oracle's: every run of five words, as tuples."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}


def exact(one: str, other: str) -> float:
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


def changed(text: str, changes: int) -> str:
    words = text.split()
    for _ in range(changes):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


COPIES = [changed(text, rng.randint(0, 6)) for text in ORIGINALS]
JACCARD = np.array([exact(one, other) for one, other in zip(ORIGINALS, COPIES, strict=True)])
ROWS = np.stack([signature(text) for text in (*ORIGINALS, *COPIES)])
RANKS = np.arange(len(ROWS))


def test_the_share_of_equal_values_is_the_jaccard_index_within_its_deviation():
    estimates = (ROWS[:300] == ROWS[300:]).mean(axis=1)
    errors = estimates - JACCARD
    deviation = np.sqrt(JACCARD * (1 - JACCARD) / PERMUTATIONS)
    assert abs(errors.mean()) < 0.01
    assert (abs(errors) <= 4 * deviation + 1e-9).all()
    assert 0.5 < np.std(errors[deviation > 0] / deviation[deviation > 0]) < 1.5


def test_near_copies_are_found_and_others_are_let_be():
    found = {(int(copy), int(original)) for copy, original in near_copies(ROWS, RANKS)}
    pairs = {(300 + index, index) for index in range(300)}
    assert found <= pairs  # no text is a copy of a stranger
    sure = {(300 + index, index) for index in np.flatnonzero(JACCARD >= NEAR + 0.1)}
    wrong = {(300 + index, index) for index in np.flatnonzero(JACCARD <= NEAR - 0.1)}
    assert len(sure) > 50
    assert len(wrong) > 50
    assert len(sure & found) / len(sure) >= 0.99
    assert len(wrong & found) / len(wrong) <= 0.01


def test_bands_find_nearly_all_pairs_that_are_near():
    width = PERMUTATIONS // BANDS
    missed = (1 - NEAR**width) ** BANDS
    assert missed < 0.003
    bands = (ROWS[:300] == ROWS[300:]).reshape(300, BANDS, width).all(axis=2).any(axis=1)
    assert bands[JACCARD >= NEAR].mean() > 0.98


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing_and_the_lower_rank_stays(shuffler):
    order = np.array(shuffler.sample(range(len(ROWS)), len(ROWS)))
    there = near_copies(ROWS[order], RANKS[order])
    expected = {(int(copy), int(original)) for copy, original in near_copies(ROWS, RANKS)}
    assert {(int(order[copy]), int(order[original])) for copy, original in there} == expected
    backwards = near_copies(ROWS, -RANKS)
    assert {(int(original), int(copy)) for copy, original in backwards} == expected


def test_of_many_copies_one_stays():
    text = ORIGINALS[0]
    rows = np.stack([signature(text)] * 5 + [signature(ORIGINALS[1])])
    ranks = np.array([4, 2, 9, 0, 7, 1])
    assert near_copies(rows, ranks).tolist() == [[0, 3], [1, 3], [2, 3], [4, 3]]


def test_case_and_punctuation_make_no_other_text_and_short_texts_have_signatures_too():
    assert (signature("A cat naps, on a sofa!") == signature("a cat naps on a SOFA")).all()
    assert (signature("Yes.") != signature("No.")).any()
    assert (signature("") == signature(" - ")).all()
    assert signature("Yes.").shape == (PERMUTATIONS,)
    assert signature("Yes.").dtype == np.uint32


def test_signatures_are_the_same_in_every_process_and_version():
    assert signature("The cat naps on the red sofa.")[:3].tolist() == PINNED


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_have_no_copies(count):
    assert near_copies(ROWS[:count], RANKS[:count]).shape == (0, 2)


PINNED = [683935385, 854231302, 1861586246]
