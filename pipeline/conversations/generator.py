"""What a generator of talk is asked and what it answers: the seam between the stage and any engine.

    class Echo(ConversationGenerator):
        def generate(self, requests):
            return [request.reply(turns, provenance) for request in requests]

A request carries the key and the binding digest of its sample, and the reply carries them back.
An engine that batches, retries or reorders must let them travel with the text, through the engine,
and never look them up again by position: that is how texts come to belong to other videos.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from schemas.base import Key, Nanoseconds, Record, Sha256, canonical_json
from schemas.conversation import Effort, text_digest
from schemas.sample import Caption, Category, Generator, Modality, QuestionAnswer, Sample, TimedEvent

MAX_CHARACTERS = 20_000
"""Longest content of one turn, in characters; `schemas.conversation.Turn` holds no more."""


class SpokenTurn(Record):
    """One utterance as the engine gave it; a model may answer anything, so nothing is checked yet."""

    role: str
    content: str


class Reply(Record):
    """What came back, under the names that went out."""

    key: Key
    binding_sha256: Sha256
    text_sha256: Sha256
    """`text_digest` of the turns as they came."""
    turns: tuple[SpokenTurn, ...]
    generator: Generator
    effort: Effort | None = None
    """None where no chat model was asked."""


class Fault(NamedTuple):
    """Why a talk is not let in."""

    rule: str
    """Name of the rule that it breaks."""
    seen: str
    """What was seen, and what was expected."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.seen}"


class Try(Record):
    """One reply that was not let in."""

    address: Sha256 | Literal[""]
    """Of the prompt; empty where none was sent, as the annotations themselves break a rule."""
    rule: str
    """Name of the rule that it breaks, or `request` where the engine refused the prompt."""
    seen: str = Field(max_length=2_000)
    """What was seen, and what was expected."""
    excerpt: str = Field(default="", max_length=2_000)
    """How the reply begins."""


class Refusal(Record):
    """A request that no reply was let in for, with all that was tried."""

    key: Key
    binding_sha256: Sha256
    tries: tuple[Try, ...] = Field(min_length=1)
    effort: Effort | None = None


class Request(Record):
    """What may be said of one sample: only annotations that fit its modality, and none that is blank."""

    key: Key
    binding_sha256: Sha256
    modality: Modality
    category: Category
    """What kind of talk is wanted."""
    duration_ns: Nanoseconds = 0
    """Of the sample's span; 0 where there is none, or where it is not known."""
    captions: tuple[str, ...] = ()
    questions: tuple[QuestionAnswer, ...] = ()
    events: tuple[TimedEvent, ...] = ()
    """In order of time."""
    seed: int = Field(ge=0, lt=2**63)
    """Of this request alone; a function of the run's seed and the key."""
    max_turns: int = Field(ge=1)
    """Most rounds (a user turn and an assistant turn) of the talk."""
    min_turns: int = Field(default=1, ge=1)
    """Fewest rounds of a talk that a model writes; a template says what there is."""

    @model_validator(mode="after")
    def _check_turns(self) -> Self:
        if self.min_turns > self.max_turns:
            raise ValueError(f"no talk has at least {self.min_turns} and at most {self.max_turns} rounds")
        return self

    @property
    def speakable(self) -> bool:
        """Whether there is anything to talk about."""
        return bool(self.captions or self.questions or self.events)

    def reply(self, turns: Iterable[SpokenTurn], generator: Generator, effort: Effort | None = None) -> Reply:
        """The reply to this very request."""
        said = tuple(turns)
        text = text_digest(self.key, self.binding_sha256, ((turn.role, turn.content) for turn in said))
        return Reply(
            key=self.key,
            binding_sha256=self.binding_sha256,
            text_sha256=text,
            turns=said,
            generator=generator,
            effort=effort,
        )

    def refusal(self, *tries: Try, effort: Effort | None = None) -> Refusal:
        """The refusal of this very request."""
        return Refusal(key=self.key, binding_sha256=self.binding_sha256, tries=tries, effort=effort)


class ConversationGenerator(ABC):
    """An engine that turns annotations into talk. Picklable until `setup`."""

    def setup(self) -> None:  # noqa: B027 - a hook: most engines need none
        """Loads what is heavy; once a worker, before any request."""

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> Sequence[Reply | Refusal]:
        """One reply a request, in the same order, or why there is none."""

    def close(self) -> None:  # noqa: B027
        """Frees what `setup` took; always called, also after an error."""


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
        duration_ns=sample.media[0].span_ns if filmed else 0,
        captions=tuple(text for text in captions if text.strip()),
        questions=tuple(pair for pair in questions if pair.question.strip() and pair.answer.strip()),
        events=tuple(sorted({event for event in events if event.text.strip()}, key=_by_time)),
        seed=seed_of(seed, sample.key),
        max_turns=max_turns,
        min_turns=min_turns,
    )


def seed_of(seed: int, key: str) -> int:
    """A seed in [0, 2**63) for one sample: neither its batch nor its neighbours change it."""
    return int.from_bytes(hashlib.sha256(canonical_json([seed, key]).encode()).digest()[:8], "big") >> 1


def _by_time(event: TimedEvent) -> tuple[int, int, str]:
    return event.start_ns, event.exclusive_end_ns, event.text
