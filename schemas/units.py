"""`Unit`: what a share is a share of, and what an account counts."""

from enum import StrEnum


class Unit(StrEnum):
    """Samples, or what they hold. Exact in every unit: a second is 10**9 nanoseconds, never a float."""

    SAMPLES = "samples"
    TURNS = "turns"
    LLM_TOKENS = "llm_tokens"
    VISUAL_TOKENS = "visual_tokens"
    SECONDS = "seconds"
    BYTES = "bytes"

    @property
    def field(self) -> str:
        """The field of a `Count` that holds it."""
        return "media_ns" if self is Unit.SECONDS else self.value

    @property
    def whole(self) -> int:
        """How many of what that field counts make one of this unit."""
        return 10**9 if self is Unit.SECONDS else 1
