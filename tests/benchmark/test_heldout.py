import json
from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from pipeline.benchmark.heldout import normalised, score, write
from pipeline.benchmark.scores import Score
from schemas.arrays import ClipTimes
from schemas.conversation import Role, Turn
from schemas.ledger import ShardSample
from schemas.sample import Category, Generator, MediaRef, Modality, Split

COLOURS = ("red", "green", "blue", "white")
QUESTION = "What colour is it?"


@dataclass(frozen=True)
class Stored:
    sample: ShardSample
    features: dict


@dataclass(frozen=True)
class Rows:
    stored: tuple
    encoders = ()

    def __len__(self):
        return len(self.stored)

    def read(self, position, encoders):
        return self.stored[position]


def film(number, colour, split, topic="colour", evidence="frame"):
    human = Generator(name="human")
    sample = ShardSample(
        key=f"{split}-{number}", source="memory", modality=Modality.VIDEO, category=Category.REASONING, split=split,
        licence="CC0-1.0", annotator=human, generator=human, binding_sha256="0" * 64, text_sha256="0" * 64,
        conversations=[Turn(role=Role.USER, content=QUESTION), Turn(role=Role.ASSISTANT, content=colour)],
        questions=[{"question": QUESTION, "answer": colour, "topic": topic, "evidence": evidence}],
        media=[MediaRef(kind="video", path="a.mp4")],
        clips=[ClipTimes(start_ns=0, exclusive_end_ns=1, t_ns=(0,), pts_ns=(0,))],
    )  # fmt: skip
    return Stored(sample, {"siglip": colour})


def films(split, count=40):
    return Rows(tuple(film(n, COLOURS[n % 4], split) for n in range(count)))


def seeing(samples, questions):
    return [f" {s.features['siglip'].title()}." if s else "red" for s in samples]


def guessing(samples, questions):
    return ["red"] * len(questions)


TRAIN, HELDOUT = films(Split.TRAIN), films(Split.HELDOUT)


def test_a_model_that_looks_passes_and_every_way_of_answering_is_counted():
    scores = score(TRAIN, HELDOUT, seeing)
    assert scores.overall == Score(questions=40, model=40, prior=10, text_only=10, swapped=0)
    assert (scores.overall.accuracy, scores.overall.best_blind) == (1.0, 0.25)
    assert scores.overall.p_value == 0.25**40
    assert scores.sees


def test_a_model_that_ignores_the_video_cannot_pass():
    scores = score(TRAIN, HELDOUT, guessing)
    assert scores.overall == Score(questions=40, model=10, prior=10, text_only=10, swapped=10)
    assert scores.overall.p_value > 0.5
    assert not scores.sees


@pytest.mark.parametrize("blind", ["prior", "text_only", "swapped"])
def test_the_best_of_the_blind_ways_is_the_one_to_beat(blind):
    right = {"model": 30, "prior": 5, "text_only": 5, "swapped": 5, blind: 28}
    found = Score(questions=40, **right)
    assert found.best_blind == 28 / 40
    assert found.p_value > 0.1  # and 5 of 40 would have given 1e-20


def test_a_model_that_knows_its_test_by_heart_cannot_pass_either():
    answers = iter([s.sample.questions[0]["answer"] for s in HELDOUT.stored] * 3)
    scores = score(TRAIN, HELDOUT, lambda samples, questions: [next(answers) for _ in questions])
    assert scores.overall.model == 40
    assert not scores.sees  # it says the same without the video, and with another one


def test_luck_within_chance_does_not_pass():
    lucky = iter([True] * 15 + [False] * 25)  # P(X >= 15) = 0.054 for 40 at 1 in 4
    said = [s.sample.questions[0]["answer"] if next(lucky) else "none" for s in HELDOUT.stored]
    scores = score(TRAIN, HELDOUT, lambda samples, _: said if samples[0] is HELDOUT.stored[0] else ["red"] * 40)
    assert scores.overall.p_value == pytest.approx(0.0544, abs=1e-4)
    assert not scores.sees


def test_each_sample_is_swapped_for_another_of_its_modality():
    shown = []
    score(TRAIN, HELDOUT, lambda samples, questions: shown.append(samples) or guessing(samples, questions))
    own, blind, swapped = shown
    assert set(blind) == {None}
    assert all(a is not b for a, b in zip(own, swapped, strict=True))
    assert len(set(map(id, swapped))) == len(own)


def test_scores_are_broken_down_by_topic_and_by_evidence():
    moving = film(1, "left", Split.HELDOUT, topic="direction", evidence="time")
    scores = score(TRAIN, Rows((film(0, "red", Split.HELDOUT), moving)), guessing)
    assert {topic: (s.questions, s.model) for topic, s in scores.by_topic.items()} == {
        "colour": (1, 1),
        "direction": (1, 0),
    }
    assert {kind: s.model for kind, s in scores.by_evidence.items()} == {"frame": 1, "time": 0}


@pytest.mark.parametrize(
    ("said", "meant"), [("Red.", "red"), (" two\n shapes ", "Two shapes"), ('"left"', "left"), ("00:02", "00:02")]
)
def test_answers_are_equal_after_normalisation(said, meant):
    assert normalised(said) == normalised(meant)


@pytest.mark.parametrize(
    ("said", "meant"), [("reddish", "red"), ("00:02", "00:20"), ("not red", "red"), ("", "red")]
)
def test_other_answers_are_not(said, meant):
    assert normalised(said) != normalised(meant)


def test_the_written_scores_hold_the_derived_numbers(tmp_path):
    write(tmp_path / "scores.json", score(TRAIN, HELDOUT, seeing))
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["sees"] is True
    assert found["overall"]["best_blind"] == 0.25


def test_a_split_without_questions_is_refused():
    with pytest.raises(ValueError, match="holds no question"):
        score(TRAIN, Rows(()), seeing)


def test_more_right_answers_than_questions_are_refused():
    with pytest.raises(ValidationError, match="4 right answers to 3 questions"):
        Score(questions=3, model=4, prior=0, text_only=0, swapped=0)
