"""The stage: ask the generator about each sample, check what it answers, build `Conversation`s."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.conversations.engine import BindingError
from pipeline.conversations.generator import ConversationGenerator, Refusal, Reply, Request, build_request
from pipeline.conversations.minhash import signature
from pipeline.conversations.model import ModelGenerator, Service
from pipeline.conversations.template import TemplateGenerator
from pipeline.conversations.tokens import count_tokens, load_tokenizer
from pipeline.conversations.validators import first_fault
from pipeline.conversations.writing import POISON, REQUEST
from pipeline.runtime.contract import Stage
from schemas.conversation import Conversation, Effort, Role, Turn
from schemas.recipe import ConversationSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import Sample

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CALLS_AT_ONCE = 3
"""Batches of requests that an engine has in work: while the last replies of one come, it is kept full."""
REASONS: Mapping[str, Reason] = {REQUEST: Reason.REQUEST_REFUSED, POISON: Reason.POISON}
"""Of refusals, by the rule of the last try; INVALID_CONVERSATION where that is a rule of talks."""


class Converse(Stage[Sample, Conversation]):
    """Turns annotations into talk, by a template or by a chat model that `service` serves."""

    name, version = "conversations", 2

    def __init__(
        self,
        spec: ConversationSpec,
        seed: int,
        service: Service | None = None,
        generator: ConversationGenerator | None = None,
    ) -> None:
        """`generator` stands in for the one that `spec` names."""
        self._spec = spec
        self._seed = seed
        self._generator = generator or build_generator(spec, service)
        self._tokenizer: Tokenizer | None = None
        if service and spec.generator == "model":
            self.calls_at_once = CALLS_AT_ONCE
            self.gpus = service.engine.tensor_parallel if service.engine.kind == "vllm" else 0

    def setup(self) -> None:
        """Makes the generator ready, and the tokenizer if the recipe names one."""
        self._generator.setup()
        if self._spec.tokenizer:
            self._tokenizer = load_tokenizer(self._spec.tokenizer)

    def process(self, batch: Sequence[Sample]) -> Sequence[Conversation | Rejection]:
        """One conversation a sample, or the reason why there is none. Raises BindingError."""
        spec = self._spec
        least = spec.min_turns if spec.generator == "model" else 1
        requests = [build_request(sample, self._seed, spec.max_turns, least) for sample in batch]
        asked = [request for request in requests if request.speakable]
        replies = list(self._generator.generate(asked)) if asked else []
        check_binding(asked, replies)
        answers = iter(replies)
        return [
            self._outcome(sample, request, next(answers)) if request.speakable else self._silent(sample)
            for sample, request in zip(batch, requests, strict=True)
        ]

    def close(self) -> None:
        """Lets the generator go."""
        self._generator.close()

    def _outcome(self, sample: Sample, request: Request, reply: Reply | Refusal) -> Conversation | Rejection:
        if isinstance(reply, Refusal):
            reason = REASONS.get(reply.tries[-1].rule, Reason.INVALID_CONVERSATION)
            return self._reject(sample, reason, _told(reply), reply.effort)
        if fault := first_fault(request, reply.turns):
            return self._reject(sample, Reason.INVALID_CONVERSATION, fault, reply.effort)
        turns = tuple(Turn(role=Role(turn.role), content=turn.content) for turn in reply.turns)
        return Conversation(
            key=reply.key,
            binding_sha256=reply.binding_sha256,
            text_sha256=reply.text_sha256,
            turns=turns,
            generator=reply.generator,
            llm_tokens=count_tokens(self._tokenizer, turns) if self._tokenizer else 0,
            effort=reply.effort,
            minhash=_minhash(turns) if reply.effort else "",
        )

    def _silent(self, sample: Sample) -> Rejection:
        kinds = ", ".join(sorted({annotation.type for annotation in sample.annotations}))
        detail = f"no annotation of this {sample.modality} sample can be talked about; it has {kinds}"
        return self._reject(sample, Reason.NO_USABLE_ANNOTATION, detail)

    def _reject(self, sample: Sample, reason: Reason, detail: str, effort: Effort | None = None) -> Rejection:
        return Rejection(
            key=sample.key,
            stage=self.name,
            reason=reason,
            detail=detail[:2_000],
            where=sample.media[0].path if sample.media else "",
            source=sample.source,
            effort=effort,
        )


def build_generator(spec: ConversationSpec, service: Service | None) -> ConversationGenerator:
    """The one that `spec` names, not set up."""
    if spec.generator == "template":
        return TemplateGenerator()
    if service is None:
        raise ValueError(f"nothing serves {spec.writer}: give the stage a service")
    return ModelGenerator(spec, service)


def _told(refusal: Refusal) -> str:
    """All tries, a line each, with how the reply to it is found in the request cache, and how it begins."""
    return "\n".join(
        f"try {number}: {each.rule}: {each.seen[:300]}"
        + (f" (reply {each.address[:12]}: {each.excerpt[:200]!r})" if each.excerpt else "")
        for number, each in enumerate(refusal.tries, 1)
    )


def _minhash(turns: Sequence[Turn]) -> str:
    text = "\n".join(turn.content for turn in turns)
    return base64.b64encode(signature(text).astype("<u4").tobytes()).decode("ascii")


def check_binding(requests: Sequence[Request], replies: Sequence[Reply | Refusal]) -> None:
    """Raises BindingError unless every reply names the key and the digest of its request, in order."""
    asked = [(request.key, request.binding_sha256) for request in requests]
    answered = [(reply.key, reply.binding_sha256) for reply in replies]
    if len(asked) != len(answered):
        raise BindingError(f"{len(asked)} requests went out, {len(answered)} replies came back")
    for question, answer in zip(asked, answered, strict=True):
        if question != answer:
            raise BindingError(
                f"the reply to {_show(question)} came back as {_show(answer)}: "
                "let the engine carry key and digest with the text, and answer in order"
            )


def _show(binding: tuple[str, str]) -> str:
    return f"{binding[0]!r} ({binding[1][:12]})"
