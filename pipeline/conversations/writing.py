"""One request to a chat model: the prompt of each try, the checks of what comes back, and the talk.

    outcome = await write(request, asker.ask, Writing(model=spec))     # a Reply, or a Refusal with all tries

A refused reply is asked for again with another seed. Each prompt is a function of request and try alone, so
that a run that is resumed finds what it has already paid for.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Self

from pydantic import Field

from pipeline.conversations.engine import Completion, PoisonError, Prompt, RequestError, misbound
from pipeline.conversations.generator import Fault, Refusal, Reply, Request, SpokenTurn, Try
from pipeline.conversations.merging import Layout, lay_out, merged
from pipeline.conversations.prompts.files import load_prompt, material_of
from pipeline.conversations.prompts.notes import messages
from pipeline.conversations.talk_schema import Limits, answer_schema, most_tokens, parse
from pipeline.conversations.template import TemplateGenerator
from pipeline.conversations.validators import RULES, STRUCTURAL, find_fault
from schemas.base import Record, digest
from schemas.conversation import Effort
from schemas.llm import ChatModelSpec
from schemas.recipe import ConversationSpec, WrittenFor
from schemas.sample import Generator

Ask = Callable[[Prompt], Awaitable[Completion]]
"""Sends a prompt; what it raises, but RequestError and PoisonError, passes through."""

REQUEST, POISON = "request", "poison"
"""Stand for a rule where the engine refused the prompt, or died of it each time."""
EXCERPT = 500
"""Characters of a refused reply that are kept."""
CHARACTERS_A_TOKEN = 3
"""Of a prompt, at the least: English has above 4."""
LEAST_TOKENS = 256
"""Asked for where the prompt seems to leave no room: the engine knows better, and refuses."""


class Writing(Record):
    """How talks are written."""

    model: ChatModelSpec
    limits: Limits = Limits()
    written_for: WrittenFor = WrittenFor()
    tries: int = Field(default=3, ge=1, le=16, description="Replies asked for before a sample is given up.")
    rules: Literal["structural", "strict"] = Field(
        default="strict",
        description="`strict` also judges language and grounding; `structural` is for models that know nothing.",
    )

    @classmethod
    def of(cls, spec: ConversationSpec) -> Self:
        """As a recipe has it. Raises ValueError where it names no model."""
        if spec.model is None:
            raise ValueError("conversations.model is not given: name the chat model")
        return cls(
            model=spec.model,
            limits=Limits(question=spec.max_question_characters, reply=spec.max_answer_characters),
            written_for=spec.written_for,
            tries=spec.tries,
            rules=spec.checks,
        )

    def layout(self, request: Request) -> Layout:
        """`lay_out`; no round is written about a sample that `written_for` leaves out."""
        layout = lay_out(request)
        taken = self.written_for.takes(request.modality, request.category)
        return layout if taken else layout._replace(least=0, most=0)


async def write(request: Request, ask: Ask, writing: Writing) -> Reply | Refusal:
    """The talk of one request. Raises BindingError, and what `ask` raises but RequestError and PoisonError."""
    layout = writing.layout(request)
    pairs = merged(request, layout.pairs, ())
    if not layout.most:
        (reply,) = TemplateGenerator().generate([request])
        return reply
    if pairs and (fault := find_fault(request, pairs, STRUCTURAL)):
        return request.refusal(_try("", fault))
    return await _ask_until_good(request, layout, ask, writing)


async def _ask_until_good(request: Request, layout: Layout, ask: Ask, writing: Writing) -> Reply | Refusal:
    tries: list[Try] = []
    replies: list[Completion] = []
    for number in range(writing.tries if writing.model.temperature else 1):  # at 0 a seed changes nothing
        prompt = build_prompt(request, layout, writing, number)
        try:
            replies.append(await ask(prompt))
        except (RequestError, PoisonError) as error:
            rule = REQUEST if isinstance(error, RequestError) else POISON
            return _refusal(request, [*tries, _try(prompt.address, Fault(rule, str(error)))], replies)
        outcome = judge(request, layout, prompt, replies[-1], writing)
        if not isinstance(outcome, Fault):
            return request.reply(outcome, provenance(request, writing.model), _effort(tries, replies))
        tries.append(_try(prompt.address, outcome, replies[-1].text))
    return _refusal(request, tries, replies)


def _refusal(request: Request, tries: Sequence[Try], replies: Sequence[Completion]) -> Refusal:
    return request.refusal(*tries, effort=_effort(tries, replies, len(tries)))


def _effort(tries: Sequence[Try], replies: Sequence[Completion], asked: int = 0) -> Effort:
    return Effort(
        tries=asked or len(replies),
        faults=tuple(each.rule for each in tries),
        prompt_tokens=sum(each.prompt_tokens for each in replies),
        output_tokens=sum(each.output_tokens for each in replies),
    )


def build_prompt(request: Request, layout: Layout, writing: Writing, number: int) -> Prompt:
    """The prompt of try `number`; tries differ by their seeds."""
    asked, model = messages(request, layout), writing.model
    characters = sum(len(message.content) for message in asked)
    room = model.max_model_len - characters // CHARACTERS_A_TOKEN
    return Prompt(
        key=request.key,
        model_sha256=digest(model),
        messages=asked,
        answer_schema=answer_schema(request, layout.least, layout.most, writing.limits),
        max_tokens=min(most_tokens(layout.most, writing.limits), max(room, LEAST_TOKENS)),
        temperature=model.temperature,
        top_p=model.top_p,
        seed=int(digest([request.seed, number])[:16], 16) >> 1,
    )


def judge(
    request: Request, layout: Layout, prompt: Prompt, completion: Completion, writing: Writing
) -> tuple[SpokenTurn, ...] | Fault:
    """The talk, or the first rule that it breaks. Raises BindingError where the reply is another prompt's."""
    if error := misbound(prompt.key, prompt.address, completion):
        raise error
    rounds = parse(completion.text, request, layout.least, layout.most, writing.limits)
    if isinstance(rounds, Fault):
        cut = completion.finish == "length"
        return Fault("schema", f"cut off at {prompt.max_tokens} tokens") if cut else rounds
    talk = merged(request, layout.pairs, rounds)
    return find_fault(request, talk, RULES[writing.rules]) or talk


def provenance(request: Request, model: ChatModelSpec) -> Generator:
    """Who wrote the rounds that were added; those of the annotations are the annotator's."""
    prompt_sha256 = load_prompt(material_of(request)).sha256
    return Generator(name=model.name, model=model.model, revision=model.revision, prompt_sha256=prompt_sha256)


def _try(address: str, fault: Fault, text: str = "") -> Try:
    return Try(address=address, rule=fault.rule, seen=fault.seen[:2_000], excerpt=text[:EXCERPT])
