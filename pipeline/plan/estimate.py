"""What a candidate will come to in a unit, before it is worked on: how many to work on at first follows from it.

Seconds are known; the rest is counted in what the work gives, and the choice rests on that count alone.
"""

from pipeline.plan.capacity import capacity
from pipeline.plan.workload import ClipsOf, work_of
from schemas.recipe import Recipe
from schemas.sample import Sample
from schemas.units import Unit
from schemas.workload import Work

CHARACTERS_A_TOKEN = 4
"""Of English text, as BPE tokenizers cut it; a rule of thumb."""

JSON_BYTES = 2_000
"""Of a sample's JSON without its texts, as those of the demo come to."""


def estimated(sample: Sample, unit: Unit, recipe: Recipe, clips_of: ClipsOf) -> int:
    """The amount in `unit`; of seconds exact, in nanoseconds."""
    work = work_of(sample, recipe, clips_of)
    texts = sum(len(each.model_dump_json()) for each in sample.annotations)
    match unit:
        case Unit.SAMPLES:
            return 1
        case Unit.SECONDS:
            return work["film_ns"]
        case Unit.TURNS:
            return 2 * min(recipe.conversations.max_turns, len(sample.annotations))
        case Unit.LLM_TOKENS:
            return max(1, texts // CHARACTERS_A_TOKEN)
        case Unit.VISUAL_TOKENS:
            frames = work["clips"] * recipe.decode.frames_per_clip + work["images"]
            return frames * recipe.mixture.tokens_per_frame
        case Unit.BYTES:
            needed = capacity(Work.model_validate(work), recipe.without_columns())
            return JSON_BYTES + texts + needed.stored_bytes
