"""The two numbers a score needs beside itself: what guessing gets, and how likely luck is."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import comb


def at_least(successes: int, trials: int, rate: Fraction) -> float:
    """P(X >= successes) for X ~ Binomial(trials, rate): the one-sided exact p-value.

    Summed as fractions, so that no tail is lost to rounding. Raises ValueError outside 0..trials or 0..1.

    >>> at_least(5, 5, Fraction(1, 2))
    0.03125
    """
    if not 0 <= successes <= trials or not 0 <= rate <= 1:
        raise ValueError(f"need 0 <= successes <= trials and 0 <= rate <= 1, got {successes=} {trials=} {rate=}")
    hit, miss, whole = rate.numerator, rate.denominator - rate.numerator, rate.denominator
    tail = sum(comb(trials, k) * hit**k * miss ** (trials - k) for k in range(successes, trials + 1))
    return float(Fraction(tail, whole**trials))


@dataclass(frozen=True)
class AnswerPrior:
    """Guesses from training answers alone: the commonest for the question's words, else for its topic.

    What ties is broken by the alphabet. A topic never seen gets the empty string, which is wrong.
    """

    by_question: dict[str, str]
    by_topic: dict[str, str]

    def guess(self, question: str, topic: str) -> str:
        """The answer of one who has read the training set and sees no medium."""
        return self.by_question.get(question) or self.by_topic.get(topic, "")


def answer_prior(seen: Iterable[tuple[str, str, str]]) -> AnswerPrior:
    """From `(question, topic, answer)` of the training split."""
    questions: defaultdict[str, Counter[str]] = defaultdict(Counter)
    topics: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for question, topic, answer in seen:
        questions[question][answer] += 1
        topics[topic][answer] += 1
    return AnswerPrior(_commonest(questions), _commonest(topics))


def _commonest(counters: dict[str, Counter[str]]) -> dict[str, str]:
    return {name: min(counter, key=lambda answer: (-counter[answer], answer)) for name, counter in counters.items()}
