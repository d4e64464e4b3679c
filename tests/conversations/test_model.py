"""The stage with a chat model: talks, refusals with all their tries, and nothing paid for twice."""

import pytest
from talk_samples import event, make_sample
from writing_engine import WritingEngine

from pipeline.conversations.allowance import AllowanceError
from pipeline.conversations.engine import BindingError
from pipeline.conversations.model import ModelGenerator, Service
from pipeline.conversations.stage import CALLS_AT_ONCE, Converse
from schemas.conversation import Conversation, text_digest
from schemas.llm import AllowanceSpec, ChatModelSpec, EngineSpec
from schemas.recipe import ConversationSpec
from schemas.rejection import Reason
from schemas.sample import Caption, Modality, QuestionAnswer

MODEL = ChatModelSpec(name="writer", model="nowhere/writer")
SPEC = ConversationSpec(generator="model", model=MODEL, checks="structural", tries=2)
SAMPLES = [
    make_sample(Caption(text=f"A red car, number {n}, drives by."), event(0, n + 1, "A car."), key=f"film-{n}")
    for n in range(12)
]


def stage_of(folder, engine, spec=SPEC, **allowance):
    engine_spec, allowed = EngineSpec(tensor_parallel=4), AllowanceSpec(**allowance)
    service = Service(engine=engine_spec, allowance=allowed, requests=str(folder / "requests"))
    return Converse(spec, 5, service, ModelGenerator(spec, service, engine))


def converse(folder, engine, samples=SAMPLES, spec=SPEC, **allowance):
    stage = stage_of(folder, engine, spec, **allowance)
    stage.setup()
    try:
        return stage.process(samples)
    finally:
        stage.close()


def test_each_sample_is_answered_in_its_place_by_a_talk_that_is_bound_to_it(tmp_path):
    talks = converse(tmp_path, WritingEngine())
    assert [talk.key for talk in talks] == [sample.key for sample in SAMPLES]
    for talk, sample in zip(talks, SAMPLES, strict=True):
        said = [(turn.role.value, turn.content) for turn in talk.turns]
        assert talk.text_sha256 == text_digest(sample.key, sample.binding_sha256(), said)
        assert talk.generator.name == "writer"
        assert talk.generator.prompt_sha256
        assert 2 <= len(talk.turns) // 2 <= SPEC.max_turns
        assert talk.effort.tries == 1
        assert talk.minhash


def test_what_is_refused_is_asked_again_and_then_given_up_with_all_tries(tmp_path):
    engine = WritingEngine(mute={"film-3"}, slow_to_learn={"film-5"})
    talks = {talk.key: talk for talk in converse(tmp_path, engine)}
    assert engine.asked == {**{sample.key: 1 for sample in SAMPLES}, "film-3": 2, "film-5": 2}
    refused = talks.pop("film-3")
    assert refused.reason is Reason.INVALID_CONVERSATION
    assert refused.detail.count("schema: no JSON") == 2
    assert (refused.effort.tries, refused.effort.faults) == (2, ("schema", "schema"))
    assert (talks["film-5"].effort.tries, talks["film-5"].effort.faults) == (2, ("schema",))
    assert (talks["film-5"].effort.prompt_tokens, talks["film-5"].effort.output_tokens) == (200, 40)
    assert all(isinstance(talk, Conversation) for talk in talks.values())


def test_a_second_run_asks_for_nothing_and_says_the_same_in_any_order(tmp_path):
    first = converse(tmp_path, WritingEngine(mute={"film-3"}))
    engine = WritingEngine()
    again = converse(tmp_path, engine, SAMPLES[::-1])
    assert again[::-1] == first
    assert not engine.asked
    assert converse(tmp_path / "other", WritingEngine(mute={"film-3"}), SAMPLES[::-1])[::-1] == first


def test_texts_that_reach_other_prompts_under_the_right_names_stop_the_run(tmp_path):
    with pytest.raises(BindingError, match="another sample"):
        converse(tmp_path, WritingEngine(mixed_up=True))


def test_annotated_pairs_stand_in_the_talk_as_they_are(tmp_path):
    pairs = [QuestionAnswer(question=f"Is it {n}?", answer=f"It is  {n}!") for n in range(2)]
    (talk,) = converse(tmp_path, WritingEngine(), [make_sample(Caption(text="A red car."), *pairs)])
    said = [turn.content for turn in talk.turns]
    start = said.index("Is it 0?")
    assert said[start : start + 4] == ["Is it 0?", "It is  0!", "Is it 1?", "It is  1!"]
    assert len(said) > 4


def test_of_a_text_no_model_is_asked(tmp_path):
    engine = WritingEngine()
    text = make_sample(QuestionAnswer(question="One and one?", answer="Two."), modality=Modality.TEXT)
    (talk,) = converse(tmp_path, engine, [text])
    assert (talk.generator.name, talk.effort, talk.minhash) == ("template", None, "")
    assert not engine.asked


def test_what_is_spent_stays_below_the_cap_and_the_rest_follows_with_a_larger_one(tmp_path):
    engine = WritingEngine()
    engine.slots, engine.prompt_tokens = 1, 3_000
    with pytest.raises(AllowanceError, match="run the same command again"):
        converse(tmp_path, engine, tokens=20_000)
    done = sum(engine.asked.values())
    assert 0 < done < len(SAMPLES)
    later = WritingEngine()
    assert len(converse(tmp_path, later, tokens=10_000_000)) == len(SAMPLES)
    assert sum(later.asked.values()) == len(SAMPLES) - done


def test_the_stage_keeps_its_engine_full_and_has_whole_gpus(tmp_path):
    stage = stage_of(tmp_path, WritingEngine())
    assert (stage.calls_at_once, stage.gpus) == (CALLS_AT_ONCE, 4)
    assert (Converse(ConversationSpec(), 0).calls_at_once, Converse(ConversationSpec(), 0).gpus) == (1, 0)
