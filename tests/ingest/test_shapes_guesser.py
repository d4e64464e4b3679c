"""What one can score on `shapes` without watching: a benchmark that words alone can pass proves nothing."""

from collections import Counter, defaultdict

import pytest

from pipeline.ingest.shapes.questions import ANSWERS, EVIDENCE, ask
from pipeline.ingest.shapes.scene import draw_film, stream
from schemas.sample import Split

FILMS = 1_500


@pytest.fixture(scope="module")
def asked():
    def films(split):
        for index in range(FILMS):
            film = draw_film(stream(3, split, index, "film"))
            yield film, ask(film, stream(3, split, index, "annotations"))

    return {split: list(films(split)) for split in Split}


def _accuracy(asked, clues):
    """Heldout accuracy, in all and by topic, of the train majority given `clues(film, questions, i)`."""
    seen = defaultdict(Counter)
    for film, questions in asked[Split.TRAIN]:
        for i, qa in enumerate(questions):
            seen[clues(film, questions, i)][qa.answer] += 1
    right = defaultdict(list)
    for film, questions in asked[Split.HELDOUT]:
        for i, qa in enumerate(questions):
            best = seen[clues(film, questions, i)].most_common(1)
            right[qa.topic].append(bool(best) and best[0][0] == qa.answer)
    by_topic = {topic: sum(hits) / len(hits) for topic, hits in right.items()}
    return sum(map(sum, right.values())) / sum(map(len, right.values())), by_topic


def test_the_best_blind_guess_from_the_question_stays_near_chance(asked):
    overall, by_topic = _accuracy(asked, lambda film, questions, i: questions[i].question)
    assert overall < 0.30
    # Order is asked for shapes (4 answers) or colours (6): chance is given by the narrower set.
    chance = {topic: 1 / (4 if topic == "order" else len(answers)) for topic, answers in ANSWERS.items()}
    for topic, accuracy in by_topic.items():
        assert accuracy < chance[topic] + 0.06, topic


def test_the_talk_so_far_does_not_tell_the_next_answer(asked):
    def clues(film, questions, i):
        return questions[i].question, tuple((qa.topic, qa.answer) for qa in questions[max(0, i - 1) : i])

    assert _accuracy(asked, clues)[0] < 0.30


def test_the_middle_frame_does_not_tell_the_direction_of_a_lone_shape(asked):
    lone = {split: [(f, q) for f, q in films if len(f.movers) == 1] for split, films in asked.items()}

    def clues(film, questions, i):
        x, y = film.movers[0].middle
        return questions[i].topic, x // 5, y // 5

    assert _accuracy(lone, clues)[1]["direction"] < 0.2 + 0.08


def test_every_answer_is_in_its_closed_set_and_every_answer_occurs(asked):
    given = defaultdict(Counter)
    for _, questions in asked[Split.TRAIN]:
        assert 3 <= len(questions) <= 6
        assert len({qa.question for qa in questions}) == len(questions)
        for qa in questions:
            assert qa.evidence == EVIDENCE[qa.topic]
            given[qa.topic][qa.answer] += 1
    assert {topic: set(answers) for topic, answers in given.items()} == {k: set(v) for k, v in ANSWERS.items()}


def test_a_question_for_one_frame_is_asked_only_where_every_frame_shows_all(asked):
    for film, questions in asked[Split.TRAIN]:
        always = all(m.start_ns == 0 and m.exclusive_end_ns == film.seconds * 10**9 for m in film.movers)
        assert always or all(qa.evidence == "time" for qa in questions)


def test_a_direction_is_asked_of_shapes_shown_for_two_seconds_or_more(asked):
    for film, questions in asked[Split.TRAIN]:
        for qa in questions:
            if qa.topic == "direction" and film.in_turn:
                (mover,) = [m for m in film.movers if f" {m.kind} " in qa.question]
                assert mover.exclusive_end_ns - mover.start_ns >= 2 * 10**9


def test_no_shape_is_asked_for_by_colour_and_by_kind_both(asked):
    for film, questions in asked[Split.TRAIN]:
        if len(film.movers) > 1:
            for mover in film.movers:
                named = [m for qa in questions for m in (mover.kind, mover.colour) if f" {m} " in qa.question]
                assert len(set(named)) <= 1
