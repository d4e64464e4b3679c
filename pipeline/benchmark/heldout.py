"""Held-out questions, each asked alone: does the model answer from what it sees?

    own features | no vision tokens | another sample's features | commonest training answer
        model          text_only              swapped                     prior

Right means equal after normalisation. Blind baselines belong to the result: Apollo's benchmark
(section 2) drops questions that text or one frame suffices for; here they are counted against the model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import punctuation
from typing import Any, Protocol

from pipeline.benchmark.scores import Score, Scores
from pipeline.benchmark.statistics import answer_prior
from pipeline.storage.files import write_text
from pipeline.storage.places import Place
from schemas.arrays import EncoderProvenance
from schemas.base import canonical_json
from schemas.ledger import ShardSample
from schemas.sample import Modality


class StoredSample(Protocol):
    """One sample as the shards hold it."""

    @property
    def sample(self) -> ShardSample:
        """Its JSON member."""

    @property
    def features(self) -> Mapping[str, Any]:
        """`[clips, t, h, w, D] float16` for each encoder asked for."""


class Reader(Protocol):
    """Random access to one split of a mixture (`pipeline.shards.reader.ShardReader` is one)."""

    @property
    def encoders(self) -> tuple[EncoderProvenance, ...]:
        """Those of the mixture, in concatenation order."""

    def __len__(self) -> int:
        """Samples of the split."""

    def read(self, position: int, encoders: Sequence[str]) -> StoredSample:
        """One sample with these encoders' features."""


Answer = Callable[[Sequence[Any], Sequence[str]], Sequence[str]]
"""`answer(samples, questions)`: one text a question about its sample; a sample that is None is not shown."""


@dataclass(frozen=True)
class Asked:
    """One question, and where its sample lies."""

    position: int
    modality: Modality
    question: str
    answer: str
    topic: str
    evidence: str


def normalised(answer: str) -> str:
    """Lower case, inner blanks single, punctuation at the ends gone.

    >>> normalised(" A red  disc.")
    'a red disc'
    """
    return " ".join(answer.lower().split()).strip(punctuation + " ")


def score(train: Reader, heldout: Reader, answer: Answer) -> Scores:
    """Asks every question of `heldout` four ways. Raises ValueError where it holds no question."""
    asked = list(_questions(heldout))
    if not asked:
        raise ValueError("the held-out split holds no question: give a source held-out samples with questions")
    prior = answer_prior((a.question, a.topic, a.answer) for a in _questions(train))
    encoders = [encoder.name for encoder in heldout.encoders]
    stored = {a.position: heldout.read(a.position, encoders) for a in asked}
    words = [a.question for a in asked]
    ways: dict[str, Sequence[str]] = {
        "model": answer([stored[a.position] for a in asked], words),
        "text_only": answer([None] * len(asked), words),
        "swapped": answer([stored[other] for other in _swapped(asked)], words),
        "prior": [prior.guess(a.question, a.topic) for a in asked],
    }
    right = {
        way: [normalised(said) == normalised(a.answer) for said, a in zip(answers, asked, strict=True)]
        for way, answers in ways.items()
    }
    return Scores(
        overall=_score(right, range(len(asked))),
        by_topic=_broken_down(right, [a.topic for a in asked]),
        by_evidence=_broken_down(right, [a.evidence for a in asked]),
    )


def write(path: Place, scores: Scores) -> None:
    """Publishes `scores`, derived numbers included, as canonical JSON."""
    write_text(path, canonical_json(scores.model_dump(mode="json")))


def _questions(reader: Reader) -> Iterator[Asked]:
    for position in range(len(reader)):
        sample = reader.read(position, []).sample
        for q in sample.questions:
            yield Asked(position, sample.modality, q["question"], q["answer"], q["topic"], q["evidence"])


def _swapped(asked: Sequence[Asked]) -> list[int]:
    """For each question the next sample of the same modality, around the circle."""
    circles: dict[Modality, list[int]] = {}
    for a in asked:
        circle = circles.setdefault(a.modality, [])
        if a.position not in circle:
            circle.append(a.position)
    following: dict[int, int] = {}
    for circle in circles.values():
        following.update(zip(circle, [*circle[1:], circle[0]], strict=True))
    return [following[a.position] for a in asked]


def _broken_down(right: Mapping[str, Sequence[bool]], names: Sequence[str]) -> dict[str, Score]:
    return {
        name or "none": _score(right, [at for at, own in enumerate(names) if own == name])
        for name in sorted(set(names))
    }


def _score(right: Mapping[str, Sequence[bool]], rows: Iterable[int]) -> Score:
    chosen = list(rows)
    return Score(questions=len(chosen), **{way: sum(hits[at] for at in chosen) for way, hits in right.items()})
