"""The stage: ask the generator about each sample, check what it answers, build `Conversation`s."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.conversations.generator import BindingError, ConversationGenerator, Reply, Request
from pipeline.conversations.template import TemplateGenerator
from pipeline.conversations.tokens import count_tokens, load_tokenizer
from pipeline.conversations.validators import first_fault
from pipeline.runtime.contract import Stage
from schemas.base import canonical_json
from schemas.conversation import Conversation, Role, Turn
from schemas.recipe import ConversationSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import Caption, MediaRef, Modality, QuestionAnswer, Sample, TimedEvent

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GENERATORS: Mapping[str, Callable[[], ConversationGenerator]] = {"template": TemplateGenerator}
"""By `ConversationSpec.generator`."""


class Converse(Stage[Sample, Conversation]):
    """Turns annotations into talk; `generator` overrides the one that `spec` names."""

    name, version = "conversations", 2

    def __init__(self, spec: ConversationSpec, seed: int, generator: ConversationGenerator | None = None) -> None:
        self._spec = spec
        self._seed = seed
        self._generator = generator or GENERATORS[spec.generator]()
        self._tokenizer: Tokenizer | None = None

    def setup(self) -> None:
        """Makes the generator ready, and the tokenizer if the recipe names one."""
        self._generator.setup()
        if self._spec.tokenizer:
            self._tokenizer = load_tokenizer(self._spec.tokenizer)

    def process(self, batch: Sequence[Sample]) -> Sequence[Conversation | Rejection]:
        """One conversation a sample, or the reason why there is none. Raises BindingError."""
        requests = [build_request(sample, self._seed, self._spec.max_turns) for sample in batch]
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

    def _outcome(self, sample: Sample, request: Request, reply: Reply) -> Conversation | Rejection:
        if fault := first_fault(request, reply.turns):
            return self._reject(sample, Reason.INVALID_CONVERSATION, fault)
        turns = tuple(Turn(role=Role(turn.role), content=turn.content) for turn in reply.turns)
        return Conversation(
            key=reply.key,
            binding_sha256=reply.binding_sha256,
            turns=turns,
            generator=reply.generator,
            llm_tokens=count_tokens(self._tokenizer, turns) if self._tokenizer else 0,
        )

    def _silent(self, sample: Sample) -> Rejection:
        kinds = ", ".join(sorted({annotation.type for annotation in sample.annotations}))
        detail = f"no annotation of this {sample.modality} sample can be talked about; it has {kinds}"
        return self._reject(sample, Reason.NO_USABLE_ANNOTATION, detail)

    def _reject(self, sample: Sample, reason: Reason, detail: str) -> Rejection:
        where = sample.media[0].path if sample.media else ""
        return Rejection(
            key=sample.key, stage=self.name, reason=reason, detail=detail[:2_000], where=where, source=sample.source
        )


def build_request(sample: Sample, seed: int, max_turns: int, min_turns: int = 1) -> Request:
    """What may be said of `sample`: events need a film, captions a picture; a blank text says nothing."""
    seen = sample.modality is not Modality.TEXT
    filmed = sample.modality is Modality.VIDEO
    questions = [a for a in sample.annotations if isinstance(a, QuestionAnswer)]
    captions = [a.text for a in sample.annotations if isinstance(a, Caption) and seen]
    events = [a for a in sample.annotations if isinstance(a, TimedEvent) and filmed]
    return Request(
        key=sample.key,
        binding_sha256=sample.binding_sha256(),
        modality=sample.modality,
        category=sample.category,
        duration_ns=span_ns(sample.media[0]) if filmed else 0,
        captions=tuple(text for text in captions if text.strip()),
        questions=tuple(pair for pair in questions if pair.question.strip() and pair.answer.strip()),
        events=tuple(sorted({event for event in events if event.text.strip()}, key=_by_time)),
        seed=seed_of(seed, sample.key),
        max_turns=max_turns,
        min_turns=min_turns,
    )


def span_ns(medium: MediaRef) -> int:
    """Length of the span a sample speaks about, ns; 0 where the film's end is not known."""
    end_ns = medium.exclusive_end_ns or medium.duration_ns
    return max(0, end_ns - medium.start_ns)


def seed_of(seed: int, key: str) -> int:
    """A seed in [0, 2**63) for one sample: neither its batch nor its neighbours change it."""
    return int.from_bytes(hashlib.sha256(canonical_json([seed, key]).encode()).digest()[:8], "big") >> 1


def check_binding(requests: Sequence[Request], replies: Sequence[Reply]) -> None:
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


def _by_time(event: TimedEvent) -> tuple[int, int, str]:
    return event.start_ns, event.exclusive_end_ns, event.text


def _show(binding: tuple[str, str]) -> str:
    return f"{binding[0]!r} ({binding[1][:12]})"
