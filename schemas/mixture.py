"""How much of what a mixture holds, and what may not enter."""

from fractions import Fraction
from math import ceil
from pathlib import PurePath
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from schemas.base import Name, Rational, Record
from schemas.gates import Gate, Gates, LicenceGate
from schemas.sample import Category, Modality
from schemas.units import Unit

Percent = Annotated[Rational, Field(ge=0, le=100)]
Weight = Annotated[Rational, Field(ge=0)]

MAX_SAMPLES = 10_000_000
"""Of a split: row numbers and positions are 32 bits wide, and a plan of as many fits the memory of a laptop."""


class MixtureSpec(Record):
    """How much of what. Shares are exact: integers by the largest-remainder rule."""

    total: int = Field(
        ge=1, le=10**15, description="Size of the train split, in `unit`. At most 10 million samples."
    )
    unit: Unit = Field(
        default=Unit.SAMPLES,
        description="What `total`, `shares`, `weights`, `floors` and `caps` count: `samples` (exact), or `turns`, "
        "`llm_tokens`, `visual_tokens`, `seconds` (of film), `bytes` (of the shards), within one sample a stratum.",
    )
    shares: dict[Modality, Percent] = Field(
        description="Percent a modality; they must sum to exactly 100. Apollo: 10 to 14 % text."
    )
    weights: dict[Name, Weight] = Field(
        default_factory=dict,
        description="Relative weight of a source within its modality; 1 where none is given, 0 leaves it out.",
    )
    categories: dict[Name, dict[Category, Weight]] = Field(
        default_factory=dict,
        description="Relative weight of each category within a source of the train split; one not named stays out.",
    )
    floors: dict[Name, Weight] = Field(
        default_factory=dict,
        description="Least that a source gives to each modality it has, in `unit`, whatever its weight gives.",
    )
    caps: dict[Name, Weight] = Field(
        default_factory=dict, description="Most that a source gives to each modality it has, in `unit`."
    )
    repeats: dict[Name, Annotated[Rational, Field(ge=1, le=100)]] = Field(
        default_factory=dict,
        description="Most passes over a source's train samples, 1 where none is given; 2.5 is two and a half. A "
        "later pass begins when one is used up; its samples are stored again, under keys that end in -e1, -e2, ...",
    )
    tokens_per_frame: int = Field(
        default=16, ge=1, le=4096, description="Visual tokens that a frame counts as; Apollo takes 16 or 32."
    )
    heldout_total: int = Field(
        default=0, ge=0, le=1_000_000, description="Samples of the heldout split, shared like weights."
    )
    licences: LicenceGate = Field(
        default=LicenceGate(),
        description="Licences that may enter. Of several joined by AND or OR each must be let in.",
    )
    annotators: Gate = Field(
        default=Gate(),
        description="Who may have written annotations; what `deny` names may not write the conversations either.",
    )
    exclude: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Files of what stays out (takedowns, benchmarks): keys, media by sha256 or name, questions.",
    )

    @model_validator(mode="after")
    def _check_exclude(self) -> Self:
        names = self.exclusions
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"two exclusion lists are named {', '.join(twice)}: the ledger tells them by these names"
            )
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        total = sum(self.shares.values(), Fraction(0))
        if total != 100:
            raise ValueError(f"shares sum to {float(total):g}, must be exactly 100: {_show(self.shares)}")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.unit is Unit.SAMPLES and self.total > MAX_SAMPLES:
            raise ValueError(f"total is {self.total:,} samples, at most {MAX_SAMPLES:,} can be planned at once")
        for name, bounds in (("floors", self.floors), ("caps", self.caps)):
            if broken := [each for each, bound in bounds.items() if (bound * self.unit.whole).denominator != 1]:
                raise ValueError(f"{name} of {', '.join(broken)}: no whole number of {self.unit}")
        if crossed := [name for name, cap in self.caps.items() if cap < self.floors.get(name, 0)]:
            raise ValueError(f"the floor of {', '.join(crossed)} lies above its cap")
        if out := [name for name, floor in self.floors.items() if floor and not self.weights.get(name, 1)]:
            raise ValueError(f"{', '.join(out)} has a floor, but its weight of 0 leaves it out")
        if empty := [name for name, weights in self.categories.items() if not any(weights.values())]:
            raise ValueError(f"categories of {', '.join(empty)}: none has a weight above zero")
        return self

    @property
    def last_epochs(self) -> dict[str, int]:
        """By source that is repeated, the number of its last pass; the first is 0."""
        return {source: ceil(passes) - 1 for source, passes in self.repeats.items()}

    @property
    def exclusions(self) -> tuple[str, ...]:
        """Names of the exclusion lists: of their files, without folder and suffix."""
        return tuple(PurePath(path).stem for path in self.exclude)

    @property
    def gates(self) -> Gates:
        """What may enter."""
        return Gates(licences=self.licences, annotators=self.annotators)


def _show(shares: dict[Any, Fraction]) -> str:
    return ", ".join(f"{name} {float(share):g}" for name, share in shares.items())
