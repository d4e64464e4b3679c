"""What the talks of a mixture are like: how long, of which kinds, how varied."""

import re
from collections import Counter
from dataclasses import dataclass, field

from pydantic import Field

from schemas.base import Record
from schemas.conversation import Role
from schemas.ledger import ShardSample

MOST_QUESTIONS = 100_000
"""Looked at for variety, the first in the stored order, which is a hash's, so a fair draw: more are never equal."""
MOST_OPENINGS = 12
OPENING_WORDS = 3
_WORD = re.compile(r"\w+(?:['’]\w+)?")


class TalkFigures(Record):
    """Of all talks of a mixture."""

    talks: int = Field(ge=0)
    by_generator: dict[str, int]
    """Talks; likewise below."""
    by_category: dict[str, int]
    by_rounds: dict[int, int]
    question_words: tuple[int, ...]
    """Length of each question that was looked at."""
    answer_words: tuple[int, ...]
    distinct_questions: float = Field(ge=0, le=1)
    """Different questions, as a share of all that were looked at."""
    distinct_trigrams: float = Field(ge=0, le=1)
    """Runs of three words in questions that are different, as a share of all."""
    openings: tuple[tuple[str, int], ...]
    """How questions begin, most frequent first, and how many do."""


@dataclass
class TalkCounter:
    """Counts talks one by one."""

    generators: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    rounds: Counter[int] = field(default_factory=Counter)
    _questions: list[list[str]] = field(default_factory=list)
    _answers: list[int] = field(default_factory=list)

    def add(self, sample: ShardSample) -> None:
        """Takes in one talk."""
        self.generators[sample.generator.name] += 1
        self.categories[sample.category] += 1
        self.rounds[len(sample.conversations) // 2] += 1
        if len(self._questions) < MOST_QUESTIONS:
            for turn in sample.conversations:
                words = _WORD.findall(turn.content.lower())
                if turn.role is Role.USER:
                    self._questions.append(words)
                else:
                    self._answers.append(len(words))

    def figures(self) -> TalkFigures:
        """Of the talks so far."""
        questions = self._questions
        trigrams = [tuple(words[at : at + 3]) for words in questions for at in range(len(words) - 2)]
        openings = Counter(" ".join(words[:OPENING_WORDS]) for words in questions)
        return TalkFigures(
            talks=self.rounds.total(),
            by_generator=_sorted(self.generators),
            by_category=_sorted(self.categories),
            by_rounds=dict(sorted(self.rounds.items())),
            question_words=tuple(map(len, questions)),
            answer_words=tuple(self._answers),
            distinct_questions=len(set(map(tuple, questions))) / len(questions) if questions else 0.0,
            distinct_trigrams=len(set(trigrams)) / len(trigrams) if trigrams else 0.0,
            openings=tuple(sorted(openings.items(), key=lambda each: (-each[1], each[0]))[:MOST_OPENINGS]),
        )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
