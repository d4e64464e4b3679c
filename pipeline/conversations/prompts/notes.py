"""The messages of a prompt: what is known of a sample, written as notes."""

from collections.abc import Iterator, Sequence
from functools import cache

from pipeline.conversations.clock import clock, span
from pipeline.conversations.engine import Message
from pipeline.conversations.generator import Request
from pipeline.conversations.merging import Layout
from pipeline.conversations.prompts.files import Material, PromptFiles, load_prompt, material_of
from pipeline.conversations.talk_schema import Round, Talk, nonce

EXAMPLE_ID = "example"
"""Of the worked example: no id of a request looks like it."""


def messages(request: Request, layout: Layout) -> tuple[Message, ...]:
    """The whole prompt; all but the last message is the same for every sample of a kind."""
    material = material_of(request)
    asked = notes(request, layout, nonce(request), load_prompt(material))
    return (*_beginning(material), Message(role="user", content=asked))


@cache
def _beginning(material: Material) -> tuple[Message, ...]:
    prompt = load_prompt(material)
    example, rounds = prompt.kind.example.request(), prompt.kind.example.rounds
    pairs = tuple(Round(question=pair.question, reply=pair.answer) for pair in example.questions)
    asked = notes(example, Layout(pairs, len(rounds), len(rounds)), EXAMPLE_ID, prompt)
    talk = Talk.model_construct(id=EXAMPLE_ID, rounds=rounds)
    return (
        Message(role="system", content=f"{prompt.shared.system}\n{prompt.kind.rules}"),
        Message(role="user", content=asked),
        Message(role="assistant", content=talk.model_dump_json()),
    )


def notes(request: Request, layout: Layout, identity: str, prompt: PromptFiles) -> str:
    """The sample's own message: kind of talk, notes, rounds wanted, id."""
    length = f" of {clock(request.duration_ns)}" if request.duration_ns else ""
    sections = [
        f"Kind of talk: {prompt.shared.categories[request.category]}",
        f"Notes on {prompt.shared.media[request.modality]}{length}:",
        _section("What is seen", [f"- {_line(text)}" for text in request.captions]),
        _section("What happens when", list(_events(request))),
        _section("Rounds that are there already", list(_pairs(layout.pairs))),
        f"Write {_count(layout)} with the id {identity}.",
    ]
    return "\n\n".join(section for section in sections if section)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *lines]) if lines else ""


def _events(request: Request) -> Iterator[str]:
    for event in request.events:
        yield f"- {span(event.start_ns, event.exclusive_end_ns)}: {_line(event.text)}"


def _pairs(pairs: Sequence[Round]) -> Iterator[str]:
    for pair in pairs:
        yield f"- {_line(pair.question)}\n  {_line(pair.reply)}"


def _line(text: str) -> str:
    """On one line: no note can look like the end of the notes."""
    return " ".join(text.split())


def _count(layout: Layout) -> str:
    most = f"{layout.most} round{'s' * (layout.most > 1)}"
    return most if layout.least == layout.most else f"{most}, at least {layout.least},"
