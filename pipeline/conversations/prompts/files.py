"""The prompt files, checked when they are read, and the digest that provenance names them by."""

from functools import cache
from importlib.resources import files
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from pipeline.conversations.clock import NS_PER_SECOND
from pipeline.conversations.generator import Request
from pipeline.conversations.talk_schema import Round
from schemas.base import Record, Sha256, sha256_text
from schemas.sample import Category, Modality, QuestionAnswer, TimedEvent

Material = Literal["captions", "pairs", "events"]


class SharedPrompt(Record):
    """`shared.yaml`."""

    version: int = Field(ge=1)
    system: str = Field(min_length=1)
    media: dict[Modality, str]
    categories: dict[Category, str]

    @model_validator(mode="after")
    def _check_words(self) -> Self:
        missing = {*Modality, *Category} - {*self.media, *self.categories}
        if missing:
            raise ValueError(f"no words for {', '.join(sorted(missing))}: add them")
        return self


class ExampleEvent(Record):
    """A timed event of a worked example."""

    start_s: int = Field(ge=0)
    end_s: int
    text: str

    def event(self) -> TimedEvent:
        """As annotations have it."""
        start_ns, end_ns = self.start_s * NS_PER_SECOND, self.end_s * NS_PER_SECOND
        return TimedEvent(start_ns=start_ns, exclusive_end_ns=end_ns, text=self.text)


class Example(Record):
    """A worked example: notes on a film, and what a good reply to them is."""

    category: Category
    duration_s: int = Field(ge=1)
    captions: tuple[str, ...] = ()
    questions: tuple[QuestionAnswer, ...] = ()
    events: tuple[ExampleEvent, ...] = ()
    rounds: tuple[Round, ...] = Field(min_length=2)

    def request(self) -> Request:
        """As the request of a sample, which it is written like."""
        rounds = len(self.rounds) + len(self.questions)
        return Request(
            key="example",
            binding_sha256="0" * 64,
            modality=Modality.VIDEO,
            category=self.category,
            duration_ns=self.duration_s * NS_PER_SECOND,
            captions=self.captions,
            questions=self.questions,
            events=tuple(each.event() for each in self.events),
            seed=0,
            max_turns=rounds,
            min_turns=rounds,
        )


class KindPrompt(Record):
    """The file of one kind of material."""

    version: int = Field(ge=1)
    rules: str = Field(min_length=1)
    example: Example


class PromptFiles(Record):
    """All that is said to a model about one kind of material, but for the sample's own."""

    shared: SharedPrompt
    kind: KindPrompt
    sha256: Sha256
    """As `cat shared.yaml <kind>.yaml | sha256sum` prints it."""


def material_of(request: Request) -> Material:
    """Which prompt a request takes: pairs go into the talk as they are, so they decide first."""
    if request.questions:
        return "pairs"
    return "events" if request.events else "captions"


@cache
def load_prompt(material: Material) -> PromptFiles:
    """The packaged files of one kind of material."""
    folder = files("pipeline.conversations").joinpath("prompts")
    texts = [folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8") for name in ("shared", material)]
    shared, kind = (yaml.safe_load(text) for text in texts)
    return PromptFiles(
        shared=SharedPrompt.model_validate(shared),
        kind=KindPrompt.model_validate(kind),
        sha256=sha256_text("".join(texts)),
    )
