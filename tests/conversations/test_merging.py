"""Laws of a talk's layout: annotated pairs stay as they are, and as many rounds are added as there is room for."""

from hypothesis import given
from hypothesis import strategies as st
from talk_samples import event, make_sample, samples

from pipeline.conversations.generator import build_request
from pipeline.conversations.merging import Layout, carried, lay_out, merged
from pipeline.conversations.talk_schema import Round
from schemas.sample import Caption, Modality, QuestionAnswer

bounds = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(sorted)
WRITTEN = [Round(question=f"Written {n}?", reply="Yes.") for n in range(8)]


def pair(number: int) -> QuestionAnswer:
    return QuestionAnswer(question=f"Annotated {number}?", answer="No.")


@given(samples, st.integers(0, 99), bounds)
def test_a_talk_has_between_min_turns_and_max_turns_rounds_wherever_a_model_writes(sample, seed, bound):
    least, most = bound
    request = build_request(sample, seed, most, least)
    layout = lay_out(request)
    if not layout.most:
        assert request.modality is Modality.TEXT or len(layout.pairs) >= most
        return
    assert 1 <= layout.least <= layout.most
    assert least <= len(layout.pairs) + layout.least
    assert len(layout.pairs) + layout.most <= most
    assert layout.most <= max(layout.least, carried(request))


@given(samples, st.integers(0, 99), st.integers(0, 8))
def test_annotated_pairs_stand_together_verbatim_and_in_order_and_nothing_is_lost(sample, seed, count):
    request = build_request(sample, seed, 32)
    layout = lay_out(request)
    turns = merged(request, layout.pairs, WRITTEN[:count])
    said = [Round(question=a.content, reply=b.content) for a, b in zip(turns[::2], turns[1::2], strict=True)]
    assert [turn.role for turn in turns] == ["user", "assistant"] * len(said)
    assert [each for each in said if each in WRITTEN] == WRITTEN[:count]
    place = said.index(layout.pairs[0]) if layout.pairs else 0
    assert tuple(said[place : place + len(layout.pairs)]) == layout.pairs
    assert merged(request, layout.pairs, WRITTEN[:count]) == turns


def test_pairs_come_first_last_and_between_and_rounds_are_drawn_from_the_whole_range():
    film = make_sample(Caption(text="word " * 200), pair(0), pair(1))
    requests = [build_request(film, seed, 8, 3) for seed in range(200)]
    assert {lay_out(request).most for request in requests} == set(range(1, 7))
    talks = [merged(request, lay_out(request).pairs, WRITTEN[:3]) for request in requests]
    assert {[turn.content for turn in talk].index("Annotated 0?") for talk in talks} == {0, 2, 4, 6}


def test_a_pair_that_stands_there_twice_is_said_once():
    request = build_request(make_sample(pair(0), pair(0), pair(1)), 0, 8)
    assert len(lay_out(request).pairs) == 2


def test_nothing_is_written_where_pairs_fill_the_talk_nor_about_a_text():
    pairs = [pair(number) for number in range(4)]
    assert lay_out(build_request(make_sample(*pairs), 0, 4)).most == 0
    assert lay_out(build_request(make_sample(*pairs), 0, 5)).most == 1
    text = make_sample(pair(0), modality=Modality.TEXT)
    assert lay_out(build_request(text, 0, 8)) == Layout((Round(question="Annotated 0?", reply="No."),), 0, 0)


def test_more_material_carries_more_rounds():
    def most(*annotations):
        return max(lay_out(build_request(make_sample(*annotations), seed, 8, 2)).most for seed in range(50))

    assert most(Caption(text="A cat naps.")) == 2
    assert most(Caption(text="word " * 40)) == 4
    assert most(Caption(text="word " * 20), Caption(text="other " * 20)) == 2  # both tell the same
    assert most(*(event(n, n + 1, "It moves.") for n in range(4))) == 5
    assert most(Caption(text="word " * 400)) == 8
