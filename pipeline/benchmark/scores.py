"""`Scores`: what a model got right on held-out questions, beside what can be had without looking."""

from fractions import Fraction
from typing import Self

from pydantic import Field, computed_field, model_validator

from pipeline.benchmark.statistics import at_least
from schemas.base import Record

SIGNIFICANCE = 0.01
"""A result that chance gives more often than this proves nothing."""


class Score(Record):
    """Right answers of each way of answering, over the same questions."""

    questions: int = Field(gt=0)
    model: int = Field(ge=0)
    """The model with the sample's own features."""
    prior: int = Field(ge=0)
    """The commonest training answer."""
    text_only: int = Field(ge=0)
    """The same model without any vision token."""
    swapped: int = Field(ge=0)
    """The same model with the features of another held-out sample."""

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if max(self.model, self._blind) > self.questions:
            raise ValueError(f"{max(self.model, self._blind)} right answers to {self.questions} questions")
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def accuracy(self) -> float:
        """Share the model answered right."""
        return self.model / self.questions

    @computed_field  # type: ignore[prop-decorator]
    @property
    def best_blind(self) -> float:
        """Share that the best of the three blind ways answered right."""
        return self._blind / self.questions

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p_value(self) -> float:
        """Chance to do as well as the model at the best blind rate (one-sided exact binomial)."""
        return at_least(self.model, self.questions, Fraction(self._blind, self.questions))

    @property
    def _blind(self) -> int:
        return max(self.prior, self.text_only, self.swapped)


class Scores(Record):
    """The benchmark's result, overall and broken down."""

    overall: Score
    by_topic: dict[str, Score]
    by_evidence: dict[str, Score]
    """`frame`: any single frame tells; `time`: only their order does; `text`: the words alone do."""
    significance: float = SIGNIFICANCE

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sees(self) -> bool:
        """Whether the model answers better than blind, beyond chance."""
        return self.overall.p_value < self.significance
