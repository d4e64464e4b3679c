"""What a plan says of talks is what the build then asks of the model."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from talk_samples import make_sample, samples

from pipeline.conversations.engine import RequestError
from pipeline.conversations.forecast import CHARACTERS_A_TOKEN, TOKENS_A_ROUND, forecast
from pipeline.conversations.generator import build_request
from pipeline.conversations.writing import Writing, write
from schemas.recipe import ConversationSpec, WrittenFor
from schemas.sample import Caption, Category, Modality, QuestionAnswer

SEED = 3


def spec_of(**fields):
    model = {"name": "chat", "model": "nowhere/chat"}
    return ConversationSpec.model_validate({"generator": "model", "model": model, **fields})


def asked(sample, spec):
    """The prompts that a build sends for a sample whose first prompt is refused."""
    prompts = []

    async def refuse(prompt):
        prompts.append(prompt)
        raise RequestError("enough")

    request = build_request(sample, SEED, spec.max_turns, spec.min_turns)
    if request.speakable:
        asyncio.run(write(request, refuse, Writing.of(spec)))
    return prompts


fields = st.fixed_dictionaries(
    {"max_turns": st.integers(2, 8)},
    optional={"written_for": st.sampled_from([{"modalities": ["video"]}, {"categories": ["reasoning"]}])},
)


@given(samples, fields)
def test_a_talk_is_foreseen_where_one_is_asked_for_and_as_long(sample, given_fields):
    spec = spec_of(**given_fields)
    prompts, foreseen = asked(sample, spec), forecast(sample, spec, SEED)
    # Pairs that break the rules by themselves are refused unasked: that much more is foreseen.
    assert foreseen.get("talks", 0) >= len(prompts)
    for prompt in prompts:
        characters = sum(len(message.content) for message in prompt.messages)
        assert foreseen["prompt_tokens"] == characters // CHARACTERS_A_TOKEN
        assert spec.min_turns <= foreseen["reply_tokens"] // TOKENS_A_ROUND + len(sample.annotations)
        assert foreseen["reply_tokens"] <= TOKENS_A_ROUND * spec.max_turns


def test_a_template_asks_for_nothing():
    assert forecast(make_sample(Caption(text="A dog runs.")), ConversationSpec(), SEED) == {}


FILM, PICTURE = (make_sample(Caption(text="A dog runs."), modality=m) for m in (Modality.VIDEO, Modality.IMAGE))


@pytest.mark.parametrize(
    ("written_for", "sample", "is_asked"),
    [
        ({}, FILM, True),
        ({}, PICTURE, True),
        ({"modalities": ["video"]}, FILM, True),
        ({"modalities": ["video"]}, PICTURE, False),
        ({"categories": ["conversational", "reasoning"]}, FILM, True),
        ({"categories": ["reasoning"]}, FILM, False),
    ],
)
def test_a_model_is_asked_about_what_it_is_to_write_for_and_no_other(written_for, sample, is_asked):
    spec = spec_of(written_for=written_for)
    assert len(asked(sample, spec)) == forecast(sample, spec, SEED).get("talks", 0) == is_asked


def test_no_talk_is_foreseen_where_the_annotated_pairs_fill_it():
    pairs = [QuestionAnswer(question=f"What is number {each}?", answer="A dog.") for each in range(2)]
    sample = make_sample(Caption(text="A dog runs."), *pairs)
    for room in (2, 3):
        spec = spec_of(max_turns=room)
        assert len(asked(sample, spec)) == forecast(sample, spec, SEED).get("talks", 0) == room - 2


def test_no_model_is_asked_about_texts_whatever_a_recipe_says():
    with pytest.raises(ValidationError, match="leave text out of modalities"):
        WrittenFor(modalities=(Modality.TEXT,))
    assert not WrittenFor().takes(Modality.TEXT, Category.CONVERSATIONAL)
