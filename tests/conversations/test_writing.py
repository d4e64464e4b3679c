"""Laws of writing one talk: a refused reply is asked for again, at most n times; a swapped one stops the run."""

import asyncio
import json
from collections.abc import Callable

import pytest
from talk_samples import event, make_sample
from talk_scenes import request_of, scenes

from pipeline.conversations.engine import BindingError, Completion, EngineLostError, Prompt, RequestError
from pipeline.conversations.generator import Refusal, Reply, Request, build_request
from pipeline.conversations.merging import lay_out
from pipeline.conversations.prompts.files import load_prompt
from pipeline.conversations.talk_schema import Limits, most_tokens, nonce
from pipeline.conversations.template import TemplateGenerator
from pipeline.conversations.writing import EXCERPT, Writing, build_prompt, write
from schemas.base import digest
from schemas.llm import ChatModelSpec
from schemas.sample import Caption, Generator, Modality, QuestionAnswer

MODEL = ChatModelSpec(name="fake", model="some/fake", revision="abc")
WRITING = Writing(model=MODEL)
SCENES = {scene["name"]: scene for scene in scenes()}
KITCHEN = request_of(SCENES["kitchen"]).model_copy(update={"max_turns": 3, "min_turns": 3})
ROUNDS = [
    ("What is the woman doing?", "She is kneading dough."),
    ("What does the boy throw?", "He throws flour into the air."),
    ("Which animal is there?", "A cat, and it is grey."),
]
BAD = [*ROUNDS[:2], ("How many cats are there?", "There are 17 cats.")]

Answer = Callable[[Prompt], str]


def said(rounds=ROUNDS, request: Request = KITCHEN) -> Answer:
    value = {"id": nonce(request), "rounds": [{"question": a, "reply": b} for a, b in rounds]}
    return lambda prompt: json.dumps(value)


class Script:
    """An engine that gives the answers of a list, one after the other."""

    def __init__(self, *answers: Answer | Exception, finish: str = "stop") -> None:
        self._answers = list(answers)
        self._finish = finish
        self.prompts: list[Prompt] = []

    async def ask(self, prompt: Prompt) -> Completion:
        self.prompts.append(prompt)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Completion(key=prompt.key, address=prompt.address, text=answer(prompt), finish=self._finish)


def outcome(script: Script, request: Request = KITCHEN, writing: Writing = WRITING) -> Reply | Refusal:
    return asyncio.run(write(request, script.ask, writing))


def spoken(reply: Reply | Refusal) -> list[tuple[str, str]]:
    assert isinstance(reply, Reply)
    contents = [turn.content for turn in reply.turns]
    return list(zip(contents[::2], contents[1::2], strict=True))


def test_a_good_reply_is_the_talk_at_the_first_try_under_the_names_that_went_out():
    script = Script(said())
    reply = outcome(script)
    assert spoken(reply) == ROUNDS
    assert (reply.key, reply.binding_sha256) == (KITCHEN.key, KITCHEN.binding_sha256)
    sha256 = load_prompt("captions").sha256
    assert reply.generator == Generator(name="fake", model="some/fake", revision="abc", prompt_sha256=sha256)
    assert len(script.prompts) == 1


def test_a_refused_reply_is_asked_for_again_with_another_seed_and_nothing_else():
    script = Script(said(BAD), lambda prompt: "Sure!", said())
    assert spoken(outcome(script)) == ROUNDS
    assert len({prompt.seed for prompt in script.prompts}) == 3
    assert len({digest(prompt.model_dump(mode="json", exclude={"seed"})) for prompt in script.prompts}) == 1


def test_after_n_tries_there_is_a_refusal_with_all_of_them():
    script = Script(said(BAD), lambda prompt: "x" * 9_000, said(ROUNDS[:2]))
    refusal = outcome(script)
    assert isinstance(refusal, Refusal)
    assert (refusal.key, refusal.binding_sha256) == (KITCHEN.key, KITCHEN.binding_sha256)
    assert [each.rule for each in refusal.tries] == ["numbers_grounded", "schema", "schema"]
    assert [each.address for each in refusal.tries] == [prompt.address for prompt in script.prompts]
    assert "17" in refusal.tries[0].seen
    assert [each.excerpt for each in refusal.tries] == [said(BAD)(None), "x" * EXCERPT, said(ROUNDS[:2])(None)]


def test_a_model_without_chance_is_asked_once_as_it_would_only_say_the_same_again():
    cold = Writing(model=MODEL.model_copy(update={"temperature": 0}))
    script = Script(said(BAD), said())
    assert len(outcome(script, writing=cold).tries) == 1


def test_a_prompt_that_the_engine_refuses_is_given_up_at_once():
    script = Script(said(BAD), RequestError("too long"), said())
    refusal = outcome(script)
    assert [(each.rule, each.seen) for each in refusal.tries][1:] == [("request", "too long")]
    assert len(refusal.tries) == 2


@pytest.mark.parametrize("error", [EngineLostError("gone"), RuntimeError("poison")])
def test_what_else_befalls_an_engine_is_for_others_to_mend(error):
    with pytest.raises(type(error)):
        outcome(Script(error))


def test_a_reply_that_was_cut_off_says_so():
    refusal = outcome(Script(*[lambda prompt: '{"id":"'] * 3, finish="length"))
    assert "cut off at" in refusal.tries[0].seen


def test_permuted_replies_stop_the_run_though_the_engine_puts_the_right_names_on_them():
    other = request_of(SCENES["pitch"])
    with pytest.raises(BindingError, match="another sample"):
        outcome(Script(said(request=other)))


@pytest.mark.parametrize("field", ["key", "address"])
def test_replies_under_wrong_names_stop_the_run(field):
    async def mislabelled(prompt: Prompt) -> Completion:
        completion = await Script(said()).ask(prompt)
        return completion.model_copy(update={field: "f" * 64})

    with pytest.raises(BindingError, match="was answered as"):
        asyncio.run(write(KITCHEN, mislabelled, WRITING))


def test_random_words_pass_where_only_the_form_is_judged():
    noise = [(f"Q{n} xzvy qwer?", f"Zxq {n} vbn 77 Oliver, asd") for n in range(3)]
    assert isinstance(outcome(Script(*[said(noise)] * 3)), Refusal)
    assert spoken(outcome(Script(said(noise)), writing=Writing(model=MODEL, rules="structural"))) == noise


def test_annotated_pairs_are_kept_and_the_model_is_shown_them_and_may_not_ask_them_again():
    toddler = request_of(SCENES["toddler"]).model_copy(update={"max_turns": 4, "min_turns": 4})
    pairs = [(pair.question, pair.answer) for pair in toddler.questions]
    new = ("Where does this take place?", "It takes place on a lawn.")
    script = Script(said([new], toddler))
    talk = spoken(outcome(script, toddler))
    assert [each for each in talk if each != new] == pairs
    assert new in talk
    assert all(question in script.prompts[0].messages[-1].content for question, _ in pairs)
    again = Script(*[said([("Why did the toddler fall down?", "He ran across the lawn.")], toddler)] * 3)
    assert {each.rule for each in outcome(again, toddler).tries} == {"no_near_copies"}


@pytest.mark.parametrize(("modality", "room"), [(Modality.VIDEO, 2), (Modality.TEXT, 8)])
def test_where_nothing_is_to_be_written_no_model_is_asked_and_none_is_named(modality, room):
    pairs = [QuestionAnswer(question=f"Is it {n}?", answer="No.") for n in range(2)]
    request = build_request(make_sample(*pairs, modality=modality), 0, room)
    reply = outcome(Script(), request)
    assert reply == TemplateGenerator().generate([request])[0]
    assert reply.generator.name == "template"


def test_annotations_that_contradict_each_other_are_refused_unasked():
    pairs = [QuestionAnswer(question="Who?", answer=answer) for answer in ("A cat.", "A dog.")]
    refusal = outcome(Script(), build_request(make_sample(*pairs), 0, 8))
    assert [(each.rule, each.address) for each in refusal.tries] == [("distinct_questions", "")]


def test_a_prompt_is_a_function_of_request_and_try_and_carries_all_that_decides():
    request = request_of(SCENES["sandwich"])
    layout = lay_out(request)
    prompts = [build_prompt(request, layout, WRITING, number) for number in (0, 1, 0)]
    assert prompts[0] == prompts[2]
    assert prompts[0].address != prompts[1].address
    assert {prompt.key for prompt in prompts} == {request.key}
    assert prompts[0].model_sha256 == digest(MODEL)
    assert (prompts[0].temperature, prompts[0].top_p) == (MODEL.temperature, MODEL.top_p)
    other = build_prompt(request.model_copy(update={"seed": 1}), layout, WRITING, 0)
    assert other.seed not in {prompt.seed for prompt in prompts}


def test_a_reply_has_the_tokens_of_the_longest_that_its_schema_allows_as_far_as_the_model_has_room():
    request = build_request(make_sample(event(0, 1, "A cat naps.")), 0, 2)
    short = Writing(model=MODEL, limits=Limits(question=60, reply=60))
    layout = lay_out(request)
    assert build_prompt(request, layout, short, 0).max_tokens == most_tokens(layout.most, short.limits)
    tight = Writing(model=MODEL.model_copy(update={"max_model_len": 2_048}))
    prompt = build_prompt(request, layout, tight, 0)
    characters = sum(len(message.content) for message in prompt.messages)
    assert prompt.max_tokens == 2_048 - characters // 3
    long = build_request(make_sample(Caption(text="word " * 3_000)), 0, 2)
    assert build_prompt(long, lay_out(long), tight, 0).max_tokens == 256
