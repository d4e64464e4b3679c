"""Shares of modalities under a name: what a study varies while everything else of a recipe stays."""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.base import Name, Rational, Record
from schemas.mixture import Percent
from schemas.sample import Modality

ORDER = (Modality.TEXT, Modality.IMAGE, Modality.MULTI_IMAGE, Modality.VIDEO)
"""Of the shares in `15/25/20/40`, as the paper's Table 13 has them."""


def _parted(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = value.split("/")
    if len(parts) != len(ORDER):
        raise ValueError(
            f"not four shares (text/image/multi-image/video in percent, such as 15/25/20/40), but {len(parts)}"
        )
    return dict(zip(ORDER, parts, strict=True))


Shares = Annotated[dict[Modality, Percent], BeforeValidator(_parted)]
"""Percent by modality; written `15/25/20/40` too."""

Benchmark = Literal["ocr", "spatial", "egocentric", "perception", "reasoning", "overall"]


class SharesRow(Record):
    """One mixture of a study."""

    shares: Shares = Field(description="Percent of samples a modality; they sum to exactly 100.")
    scores: dict[Benchmark, Rational] = Field(
        default_factory=dict, description="What was scored after training on such a mixture, in percent."
    )

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if (total := sum(self.shares.values(), Fraction(0))) != 100:
            raise ValueError(f"shares sum to {float(total):g}, must be exactly 100")
        return self


class SharesTable(Record):
    """The mixtures of a study by name."""

    name: Name = Field(description="Of the study.")
    basis: str = Field(min_length=1, max_length=300, description="Where shares and scores are from.")
    rows: dict[Name, SharesRow] = Field(min_length=1, description="Mixtures by name.")
