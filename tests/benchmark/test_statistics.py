from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.benchmark.statistics import answer_prior, at_least

rates = st.fractions(0, 1, max_denominator=50)


@pytest.mark.parametrize(
    ("successes", "trials", "rate", "expected"),
    [
        (3, 3, Fraction(1, 2), 1 / 8),
        (2, 3, Fraction(1, 2), 4 / 8),  # HHT HTH THH HHH of eight
        (4, 5, Fraction(1, 3), 11 / 243),  # 5 * 2 + 1 of 3^5
        (0, 7, Fraction(1, 9), 1.0),
        (1, 4, Fraction(0), 0.0),
        (4, 4, Fraction(1), 1.0),
    ],
)
def test_the_tail_is_the_one_worked_out_by_hand(successes, trials, rate, expected):
    assert at_least(successes, trials, rate) == expected


@given(st.integers(0, 30), st.integers(0, 30), rates)
def test_the_tail_is_a_sum_of_binomial_terms(successes, more, rate):
    trials = successes + more
    terms = [comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(successes, trials + 1)]
    assert at_least(successes, trials, rate) == float(sum(terms, Fraction(0)))


@given(st.integers(1, 200), rates)
def test_doing_better_is_never_likelier(trials, rate):
    tails = [at_least(k, trials, rate) for k in range(0, trials + 1, max(1, trials // 7))]
    assert tails == sorted(tails, reverse=True)


@pytest.mark.parametrize(("successes", "trials", "rate"), [(3, 2, 0.5), (-1, 2, 0.5), (1, 2, 1.5)])
def test_impossible_counts_and_rates_are_refused(successes, trials, rate):
    with pytest.raises(ValueError, match="need 0 <= successes"):
        at_least(successes, trials, Fraction(rate))


SEEN = [
    ("Which way?", "direction", "left"),
    ("Which way?", "direction", "left"),
    ("Which way?", "direction", "right"),
    ("Where to?", "direction", "up"),
    ("Where to?", "direction", "right"),
    ("Where to?", "direction", "right"),
    ("Where to?", "direction", "right"),
]


@pytest.mark.parametrize(
    ("question", "topic", "guess"),
    [
        ("Which way?", "direction", "left"),  # 2 of 3 for these very words
        ("Whither?", "direction", "right"),  # 4 of 7 for the topic
        ("Whither?", "colour", ""),
    ],
)
def test_the_prior_guesses_by_the_words_and_else_by_the_topic(question, topic, guess):
    assert answer_prior(SEEN).guess(question, topic) == guess


@given(st.permutations(SEEN[:2] + [("Which way?", "direction", "right")] * 2))
def test_ties_are_broken_by_the_alphabet_whatever_the_order(seen):
    assert answer_prior(seen).guess("Which way?", "direction") == "left"
