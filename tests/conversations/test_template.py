"""Laws of the template generator: deterministic, verbatim, bounded, and nothing invented."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from talk_samples import event, make_sample, questions, samples

from pipeline.conversations.clock import span
from pipeline.conversations.generator import Request, build_request
from pipeline.conversations.template import Round, TemplateGenerator
from pipeline.conversations.templates import Templates, load_templates
from pipeline.conversations.validators import no_placeholder
from schemas.base import Record
from schemas.sample import Caption, Modality, QuestionAnswer, Sample

rooms = st.integers(1, 8)
seeds = st.integers(0, 2**40)


def talk(sample: Sample, seed: int = 0, room: int = 8) -> list[Round]:
    request = build_request(sample, seed, room)
    (reply,) = TemplateGenerator().generate([request])
    contents = [turn.content for turn in reply.turns]
    assert [turn.role for turn in reply.turns] == ["user", "assistant"] * (len(contents) // 2)
    return list(zip(contents[::2], contents[1::2], strict=True))


def spoken(sample: Sample) -> Request:
    return build_request(sample, 0, 1)


@given(samples, seeds, rooms)
def test_rounds_never_exceed_max_turns_and_something_is_said_where_anything_can_be(sample, seed, room):
    rounds = talk(sample, seed, room)
    assert len(rounds) <= room
    assert bool(rounds) == spoken(sample).speakable


@given(samples, seeds, rooms, samples)
def test_a_talk_depends_on_nothing_but_seed_and_sample(sample, seed, room, neighbour):
    alone = TemplateGenerator().generate([build_request(sample, seed, room)])[0]
    requests = [build_request(neighbour, seed, room), build_request(sample, seed, room)]
    assert TemplateGenerator().generate(requests)[1] == alone


def test_another_seed_or_key_words_it_otherwise():
    caption = Caption(text="A cat.")
    by_seed = {talk(make_sample(caption), seed)[0][0] for seed in range(90)}
    by_key = {talk(make_sample(caption, key=f"k{index}"))[0][0] for index in range(90)}
    assert len(by_seed) == len(by_key) == 9  # every phrasing of a video's caption comes up


@given(samples, seeds)
def test_every_question_answer_pair_is_there_verbatim_and_in_order_when_room_allows(sample, seed):
    pairs = list(dict.fromkeys((pair.question, pair.answer) for pair in spoken(sample).questions))
    rounds = talk(sample, seed, room=max(1, len(pairs)))
    assert [each for each in rounds if each in pairs] == pairs


@given(st.lists(questions, min_size=2, max_size=8, unique_by=lambda pair: pair.question), seeds, rooms)
def test_too_many_pairs_are_cut_to_a_prefix_unless_each_stands_alone_by_its_topic(pairs, seed, room):
    said = talk(make_sample(*pairs), seed, room)
    offered = [(pair.question, pair.answer) for pair in pairs]
    assert [pair for pair in offered if pair in said] == said  # in order
    if not all(pair.topic for pair in pairs):
        assert said == offered[:room]


def test_topics_share_the_room_among_seeds():
    pairs = [QuestionAnswer(question=f"{n}?", answer="Yes.", topic="t") for n in range(6)]
    seen = {question for seed in range(40) for question, _ in talk(make_sample(*pairs), seed, room=2)}
    assert seen == {pair.question for pair in pairs}


@given(samples, seeds, rooms)
def test_nothing_is_invented(sample, seed, room):
    request = spoken(sample)
    pairs = {(pair.question, pair.answer) for pair in request.questions}
    for question, answer in talk(sample, seed, room):
        assert (question, answer) in pairs or follows_from_annotations(request, question, answer)


def follows_from_annotations(request: Request, question: str, answer: str) -> bool:
    """The oracle: every way of reading a round back into annotations, with no look at how it was made."""
    templates, _ = load_templates()
    if question in templates.caption.get(request.modality, ()):
        return answer in request.captions
    spans = {(span(e.start_ns, e.exclusive_end_ns), e.text.strip()) for e in request.events}
    told = {(when, as_sentence(text)) for when, text in spans}
    if question in templates.account.questions:
        lines = [f"{when[0].upper()}{when[1:]}: {as_sentence(text)}" for when, text in sorted_spans(request)]
        return answer == "\n".join(lines)
    if texts := read_back(question, templates.when.questions):
        times = read_back(answer, templates.when.answers)
        return any((time, text + stop) in spans for text in texts for time in times for stop in ("", "."))
    times = read_back(question, templates.what.questions)
    return any((time, answer) in told for time in times)


def as_sentence(text: str) -> str:
    """With a capital, and a full stop where it ends in a letter or a digit."""
    stop = "." if re.search(r"[^\W_]$", text) else ""
    return text[:1].upper() + text[1:] + stop


def sorted_spans(request: Request) -> list[tuple[str, str]]:
    told: dict[tuple[str, str], str] = {}
    for e in sorted(request.events, key=lambda e: (e.start_ns, e.exclusive_end_ns, e.text)):
        when, text = span(e.start_ns, e.exclusive_end_ns), e.text.strip()
        told.setdefault((when, text.removesuffix(".")), text)
    return [(when, text) for (when, _), text in told.items()]


def read_back(text: str, templates: tuple[str, ...]) -> list[str]:
    patterns = (re.sub(r"\\{\w+\\}", "(.*)", re.escape(template)) for template in templates)
    return [match.group(1) for pattern in patterns if (match := re.fullmatch(pattern, text, re.DOTALL))]


@given(samples, seeds, rooms)
def test_nothing_is_asked_twice_and_no_placeholder_is_written(sample, seed, room):
    request = build_request(sample, seed, room)
    (reply,) = TemplateGenerator().generate([request])
    asked = [turn.content for turn in reply.turns if turn.role == "user"]
    if len({pair.question for pair in request.questions}) == len(
        {(p.question, p.answer) for p in request.questions}
    ):
        assert len(set(asked)) == len(asked)
    assert no_placeholder(request, reply.turns) is None


def test_a_template_never_repeats_a_question_of_the_annotations():
    taken = load_templates()[0].caption[Modality.VIDEO][:-1]
    pairs = [QuestionAnswer(question=question, answer="So.") for question in taken]
    for seed in range(20):
        rounds = talk(make_sample(Caption(text="A cat."), *pairs), seed, room=9)
        assert rounds.count((load_templates()[0].caption[Modality.VIDEO][-1], "A cat.")) == 1


def test_the_caption_comes_first_or_last():
    pair = QuestionAnswer(question="Who?", answer="A cat.")
    orders = {
        tuple(answer for _, answer in talk(make_sample(Caption(text="A cat naps."), pair, event(0, 1, "x")), seed))
        for seed in range(30)
    }
    assert {order[0] for order in orders} == {"A cat naps.", "A cat."}
    assert all("A cat naps." in (order[0], order[-1]) for order in orders)


def test_events_are_accounted_for_in_order_of_time():
    sample = make_sample(
        event(61, 62, "A dog barks."), event(0.5, 0.9, "A cat naps."), event(3599, 3601, "It ends")
    )
    *_, (_, account) = talk(sample)
    assert account == "At 00:00: A cat naps.\nFrom 01:01 to 01:02: A dog barks.\nFrom 59:59 to 1:00:01: It ends."


def test_a_question_that_has_two_answers_is_not_asked():
    same_text = make_sample(event(0, 2, "A ball bounces."), event(1, 3, "A ball bounces"))
    for seed in range(20):
        ((question, _),) = talk(same_text, seed)  # the same words, and spans that overlap: only the account
        assert question in load_templates()[0].account.questions
    same_second = make_sample(event(1.1, 1.3, "One."), event(1.5, 1.8, "Two."))
    asked = [question for seed in range(20) for question, _ in talk(same_second, seed)]
    assert not any("00:01" in question for question in asked)


def test_one_event_told_twice_within_a_second_is_one_event():
    for seed in range(20):
        ((question, answer),) = talk(make_sample(event(1.1, 1.3, "A blink."), event(1.5, 1.8, "A blink")), seed)
        assert question not in load_templates()[0].account.questions
        assert "00:01" in question + answer


def test_single_events_are_asked_for_in_order_of_time_each_by_its_time_or_by_its_text():
    moments = [event(10 * n, 10 * n + 5, f"Event {n}.") for n in range(6)]
    for seed in range(20):
        *rounds, account = talk(make_sample(*moments), seed, room=5)
        assert account[0] in load_templates()[0].account.questions
        told = [int(found) for found in re.findall(r"Event (\d)", " ".join(map(" ".join, rounds)))]
        assert told == sorted(set(told))
        assert len(told) == 4  # of six, by lot


def test_a_moment_takes_its_whole_second():
    lone = {talk(make_sample(event(1.1, 1.3, "A blink.")), seed)[0] for seed in range(30)}
    assert ("What happens at 00:01?", "A blink.") in lone
    within = make_sample(event(1.1, 1.3, "A blink."), event(1, 3, "A stare."))
    asked = [question for seed in range(30) for question, _ in talk(within, seed)]
    assert not any("00:0" in question for question in asked)


def test_an_account_that_no_turn_can_hold_is_left_out():
    long = [event(10 * n, 10 * n + 5, f"{n} {'a' * 1_900}") for n in range(12)]
    rounds = talk(make_sample(*long))
    assert len(rounds) == 8
    assert not {question for question, _ in rounds} & set(load_templates()[0].account.questions)


def test_a_text_or_picture_sample_says_nothing_of_time_and_a_text_nothing_of_sight():
    annotations = (Caption(text="Seen."), event(0, 1, "Moves."), QuestionAnswer(question="Q?", answer="A."))
    assert talk(make_sample(*annotations, modality=Modality.TEXT)) == [("Q?", "A.")]
    assert {answer for _, answer in talk(make_sample(*annotations, modality=Modality.IMAGE))} == {"Seen.", "A."}


def test_provenance_names_the_template_file():
    (reply,) = TemplateGenerator().generate([build_request(make_sample(Caption(text="A cat.")), 0, 1)])
    assert reply.generator == load_templates()[1]
    # The digest of the file that version 2 stands for. Changed a template? Raise `version` in the
    # file and `Converse.version`, then write the new pair here.
    assert (reply.generator.revision, reply.generator.prompt_sha256[:16]) == ("2", "2b01f54d1345a7f6")


@pytest.mark.parametrize(
    "fault",
    [
        {"when": {"questions": ["When?"], "answers": ["{span}"]}},
        {"what": {"questions": ["What {event}?"]}},
        {"caption": {"video": ["Describe."], "image": ["Describe."]}},
    ],
)
def test_a_template_file_with_a_wrong_or_missing_field_is_refused(fault: dict[str, object]):
    good = load_templates()[0].model_dump()
    Templates.model_validate(good)
    with pytest.raises(ValidationError):
        Templates.model_validate(good | fault)


def test_templates_are_records():
    assert isinstance(load_templates()[0], Record)
