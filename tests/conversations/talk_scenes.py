"""The scenes of `talks.yaml`: requests, good talks about them, and planted faults with their clean twins."""

from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import yaml
from talk_samples import event, make_sample

from pipeline.conversations.generator import MAX_CHARACTERS, Request, SpokenTurn, build_request, seed_of
from schemas.sample import Caption, Modality, QuestionAnswer

ROOM = 8
SECOND = 1_000_000_000


class Talk(NamedTuple):
    name: str
    request: Request
    turns: tuple[SpokenTurn, ...]


class Fault(NamedTuple):
    rule: str
    talk: Talk
    twin: Talk


@cache
def scenes() -> list[dict]:
    return yaml.safe_load(Path(__file__).with_name("talks.yaml").read_text(encoding="utf-8"))


def good_talks() -> Iterator[Talk]:
    for scene in scenes():
        for number, rounds in enumerate(scene["talks"]):
            yield Talk(f"{scene['name']}-{number}", request_of(scene), turns(rounds))


def faults() -> Iterator[Fault]:
    for scene in scenes():
        request = request_of(scene)
        for number, row in enumerate(scene["faults"]):
            name, talk = f"{scene['name']}-{number}-{row['rule']}", turns(scene["talks"][0])
            broken, twin = (*talk, *planted(row["rule"], row["fault"])), (*talk, *turns(row["twin"]))
            yield Fault(row["rule"], Talk(name, request, broken), Talk(name, request, twin))


def planted(rule: str, text: str) -> tuple[SpokenTurn, ...]:
    """The fault as it is written, or one of four that YAML cannot hold well."""
    match rule:
        case "alternating_roles":
            return (SpokenTurn(role="user", content="Is it made of wood?"),)
        case "content_present":
            return (SpokenTurn(role="user", content="What is it?"), SpokenTurn(role="assistant", content=" \n"))
        case "content_length":
            return turns(f"What is it?\n{'It is flour. ' * MAX_CHARACTERS}")
        case "round_limit":
            places = ("table", "sill", "apron", "floor", "window")
            return turns("".join(f"What is on the {place}?\nFlour is on the {place}.\n" for place in places))
    return turns(text)


def turns(text: str) -> tuple[SpokenTurn, ...]:
    """Two lines a round."""
    roles = cycle(("user", "assistant"))
    return tuple(SpokenTurn(role=role, content=line) for role, line in zip(roles, text.splitlines(), strict=False))


def request_of(scene: dict) -> Request:
    annotations = [
        *(Caption(text=text) for text in scene.get("captions", ())),
        *(
            QuestionAnswer(**dict(zip(("question", "answer"), pair.splitlines(), strict=True)))
            for pair in scene.get("questions", ())
        ),
        *(event(*each) for each in scene.get("events", ())),
    ]
    modality = Modality(scene.get("modality", "video"))
    request = build_request(make_sample(*annotations, key=scene["name"], modality=modality), 0, ROOM)
    duration_ns = scene.get("duration_s", 0) * SECOND
    return request.model_copy(update={"duration_ns": duration_ns, "seed": seed_of(0, scene["name"])})
