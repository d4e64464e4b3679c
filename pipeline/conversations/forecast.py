"""What talks will take of a chat model, before it is asked for any."""

from collections.abc import Mapping

from pipeline.conversations.generator import build_request
from pipeline.conversations.prompts.notes import messages
from pipeline.conversations.writing import Writing
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
    if spec.generator == "template" or not spec.written_for.takes(sample.modality, sample.category):
        return {}  # most samples of a mixture: nothing is built for them
    writing = Writing.of(spec)
    request = build_request(sample, seed, spec.max_turns, spec.min_turns)
    layout = writing.layout(request)
    if not (request.speakable and layout.most):
        return {}
    characters = sum(len(message.content) for message in messages(request, layout))
    return {
        "talks": 1,
        "prompt_tokens": characters // CHARACTERS_A_TOKEN,
        "reply_tokens": layout.most * TOKENS_A_ROUND,
    }
