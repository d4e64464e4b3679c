"""What talks will take of a chat model, before it is asked for any."""

from collections.abc import Iterable, Iterator, Mapping

from pipeline.conversations.engine import Prompt
from pipeline.conversations.generator import Request, build_request
from pipeline.conversations.merging import Layout
from pipeline.conversations.prompts.notes import messages
from pipeline.conversations.writing import Writing, build_prompt
from schemas.recipe import ConversationSpec
from schemas.sample import Sample

CHARACTERS_A_TOKEN = 4
"""Of English, about."""
TOKENS_A_ROUND = 150
"""Our assumption, as in the packaged workloads: a question of 30 and an answer of 120."""


def forecast(sample: Sample, spec: ConversationSpec, seed: int) -> Mapping[str, int]:
    """`talks`, `prompt_tokens` and `reply_tokens` of one sample, as a `Work` has them; none for a template's talk.

    Whether a model is asked, what it reads and how many rounds it writes at most is what the build will do; tokens
    are estimated. Nothing is counted for replies that will be refused.
    """
    wanted = _wanted(sample, spec, seed)
    if wanted is None:
        return {}
    characters = sum(len(message.content) for message in messages(*wanted))
    return {
        "talks": 1,
        "prompt_tokens": characters // CHARACTERS_A_TOKEN,
        "reply_tokens": wanted[1].most * TOKENS_A_ROUND,
    }


def first_prompts(samples: Iterable[Sample], spec: ConversationSpec, seed: int) -> Iterator[Prompt]:
    """What a build asks first about each of the samples that the model writes for."""
    for sample in samples:
        if wanted := _wanted(sample, spec, seed):
            yield build_prompt(*wanted, Writing.of(spec), 0)


def _wanted(sample: Sample, spec: ConversationSpec, seed: int) -> tuple[Request, Layout] | None:
    """What is asked of the model about a sample; None where it writes nothing."""
    if spec.generator == "template" or not spec.written_for.takes(sample.modality, sample.category):
        return None  # most samples of a mixture: nothing is built for them
    request = build_request(sample, seed, spec.max_turns, spec.min_turns)
    layout = Writing.of(spec).layout(request)
    return (request, layout) if request.speakable and layout.most else None
