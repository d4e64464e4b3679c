"""Laws of the stage: binding, conservation, and a reason for every sample that is left out."""

import pickle
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk_samples import SECOND, event, make_sample, samples

from pipeline.conversations.engine import BindingError
from pipeline.conversations.generator import ConversationGenerator, Reply, Request
from pipeline.conversations.stage import Converse
from pipeline.conversations.template import TemplateGenerator
from pipeline.runtime.contract import ContractError, run_chain
from schemas.conversation import Conversation
from schemas.recipe import ConversationSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import Caption, MediaRef, Modality, QuestionAnswer

SPEC = ConversationSpec()
THREE = [make_sample(Caption(text=f"Cat {key}."), key=key) for key in "abc"]


class Mutated(ConversationGenerator):
    """The template generator with a planted fault."""

    def __init__(self, mutate: Callable[[list[Reply]], list[Reply]]) -> None:
        self._mutate = mutate
        self.closed = False

    def generate(self, requests: Sequence[Request]) -> Sequence[Reply]:
        return self._mutate(list(TemplateGenerator().generate(requests)))

    def close(self) -> None:
        self.closed = True


def with_first(replies: list[Reply], **update: object) -> list[Reply]:
    return [replies[0].model_copy(update=update), *replies[1:]]


FAULTS: dict[str, Callable[[list[Reply]], list[Reply]]] = {
    "permuted": lambda replies: replies[::-1],
    "rotated": lambda replies: [*replies[1:], replies[0]],
    "another key": lambda replies: with_first(replies, key="z"),
    "keys swapped, digests left": lambda replies: [
        replies[0].model_copy(update={"key": "b"}),
        replies[1].model_copy(update={"key": "a"}),
        replies[2],
    ],
    "another digest": lambda replies: with_first(replies, binding_sha256="0" * 64),
    "one lost": lambda replies: replies[1:],
    "one doubled": lambda replies: [*replies, replies[0]],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reply_under_another_name_stops_the_run(fault):
    stage = Converse(SPEC, 0, generator=Mutated(FAULTS[fault]))
    with pytest.raises(BindingError):
        stage.process(THREE)
    assert issubclass(BindingError, ContractError)


def test_an_honest_generator_passes_the_same_check():
    talks = Converse(SPEC, 0, generator=Mutated(lambda replies: replies)).process(THREE)
    assert [talk.binding_sha256 for talk in talks] == [sample.binding_sha256() for sample in THREE]
    assert [talk.turns[1].content for talk in talks] == ["Cat a.", "Cat b.", "Cat c."]


@given(st.lists(samples, max_size=5, unique_by=lambda sample: sample.key), st.integers(0, 9), st.integers(1, 6))
def test_every_sample_leaves_once_and_batching_changes_nothing(batch, seed, room):
    stage = Converse(ConversationSpec(max_turns=room), seed)
    stage.setup()
    together = run_chain([stage], batch)
    apart = [outcome for sample in batch for outcome in run_chain([stage], [sample])]
    stage.close()
    assert together == apart
    assert [outcome.key for outcome in together] == [sample.key for sample in batch]
    for sample, outcome in zip(batch, together, strict=True):
        if isinstance(outcome, Conversation):
            assert outcome.binding_sha256 == sample.binding_sha256()
            assert len(outcome.turns) <= 2 * room


@pytest.mark.parametrize(
    ("annotation", "modality"),
    [
        (Caption(text="Seen."), Modality.TEXT),
        (event(0, 1, "Moves."), Modality.IMAGE),
        (Caption(text=" \n"), Modality.VIDEO),
        (QuestionAnswer(question="Why?", answer=" "), Modality.TEXT),
    ],
)
def test_a_sample_with_nothing_to_say_is_rejected_unasked(annotation, modality):
    (outcome,) = Converse(SPEC, 0).process([make_sample(annotation, modality=modality)])
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.stage) == (Reason.NO_USABLE_ANNOTATION, "conversations")
    assert annotation.type in outcome.detail
    assert modality in outcome.detail


def test_an_event_after_the_end_of_its_film_rejects_the_sample_and_says_where_it_is():
    (outcome,) = Converse(SPEC, 0).process([make_sample(event(6000, 6001, "Too late."))])
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.where, outcome.source) == (Reason.INVALID_CONVERSATION, "a.mp4", "test")
    assert outcome.detail.startswith("times_within_film: ")


def test_contradicting_answers_to_one_question_reject_the_sample():
    pairs = [QuestionAnswer(question="Who?", answer=answer) for answer in ("A cat.", "A dog.")]
    (outcome,) = Converse(SPEC, 0).process([make_sample(*pairs)])
    assert isinstance(outcome, Rejection)
    assert "distinct_questions" in outcome.detail


def test_rejected_and_spoken_samples_keep_their_order():
    mute = make_sample(Caption(text="Seen."), key="mute", modality=Modality.TEXT)
    outcomes = Converse(SPEC, 0).process([mute, THREE[0], mute.model_copy(update={"key": "mute2"}), THREE[1]])
    assert [outcome.key for outcome in outcomes] == ["mute", "a", "mute2", "b"]
    assert [type(outcome) for outcome in outcomes] == [Rejection, Conversation] * 2


def test_a_stage_travels_to_a_worker_before_setup():
    stage = pickle.loads(pickle.dumps(Converse(SPEC, 7)))  # noqa: S301 - our own bytes
    assert stage.process(THREE) == Converse(SPEC, 7).process(THREE)
    assert stage.process(THREE) != Converse(SPEC, 8).process(THREE)


def test_close_reaches_the_generator():
    generator = Mutated(lambda replies: replies)
    Converse(SPEC, 0, generator=generator).close()
    assert generator.closed


def test_the_span_of_a_film_is_what_is_shown_of_it():
    film = {"kind": "video", "path": "a.mp4", "duration_ns": 9 * SECOND}
    assert MediaRef(**film).span_ns == 9 * SECOND
    assert MediaRef(**film, start_ns=2 * SECOND).span_ns == 7 * SECOND
    assert MediaRef(**film, start_ns=2 * SECOND, exclusive_end_ns=5 * SECOND).span_ns == 3 * SECOND
    assert MediaRef(kind="video", path="a.mp4", start_ns=1).span_ns == 0
