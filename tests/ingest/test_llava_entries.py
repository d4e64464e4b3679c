"""LLaVA's entries as samples: what fits comes through whole, what does not is refused by name."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.llava.source import Llava
from pipeline.ingest.llava.talk import RefusedError, pair_turns
from schemas.rejection import Reason, Rejection
from schemas.sample import Category, Generator, Modality, Sample, Split
from schemas.sources import LlavaSource

TALK = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]
PLACEHOLDERS = ("<image>", "<video>")


def llava(path, **more):
    spec = {"kind": "llava", "name": "own", "annotations": str(path), "media_root": str(Path(path).parent)}
    return Llava(LlavaSource.model_validate({**spec, "licence": "CC-BY-4.0", "annotator": "human", **more}))


def read(tmp_path, *entries, **more):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    source = llava(path, **more)
    return [source.sample(entry, tmp_path) for entry in source.entries()]


def refused(tmp_path, entry, reason, *words):
    (rejection,) = read(tmp_path, entry)
    assert isinstance(rejection, Rejection)
    assert (rejection.stage, rejection.reason, rejection.source) == ("ingest", reason, "own")
    assert rejection.where == "own.jsonl:1"
    for word in words:
        assert word in rejection.detail
    return rejection


@pytest.mark.parametrize(
    ("media", "modality", "paths"),
    [
        ({"image": "a.jpg"}, Modality.IMAGE, ["a.jpg"]),
        ({"image": ["a.jpg"]}, Modality.IMAGE, ["a.jpg"]),
        ({"image": ["a.jpg", "b/c.png"]}, Modality.MULTI_IMAGE, ["a.jpg", "b/c.png"]),
        ({"video": "v.mp4"}, Modality.VIDEO, ["v.mp4"]),
        ({"video": ".//b/./v.mp4", "image": None}, Modality.VIDEO, ["b/v.mp4"]),
    ],
)
def test_the_modality_follows_from_the_media(tmp_path, media, modality, paths):
    (sample,) = read(tmp_path, {"id": 1, "conversations": TALK, **media})
    assert isinstance(sample, Sample)
    assert sample.modality is modality
    assert [medium.path for medium in sample.media] == paths
    assert {medium.kind for medium in sample.media} == set(media) - {k for k, v in media.items() if v is None}
    (pair,) = sample.annotations
    assert (pair.question, pair.answer, pair.topic, pair.evidence) == ("What is this?", "A cat.", "", "")


def test_an_entry_without_media_is_text(tmp_path):
    talk = [{"from": "user", "value": "Two and two?"}, {"from": "assistant", "value": "Four."}]
    (sample,) = read(tmp_path, {"id": "t", "conversations": talk})
    assert (sample.modality, sample.media) == (Modality.TEXT, ())


def test_the_recipe_says_licence_annotator_category_and_split(tmp_path):
    said = {"category": "reasoning", "split": "heldout", "licence": "X", "annotator": "llama"}
    (sample,) = read(tmp_path, {"image": "a.jpg", "conversations": TALK}, **said)
    assert (sample.category, sample.split, sample.licence) == (Category.REASONING, Split.HELDOUT, "X")
    assert sample.annotator == Generator(name="llama")


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
plain = words.filter(lambda text: text == text.strip() and not any(p in text for p in PLACEHOLDERS))


@given(st.lists(st.tuples(plain, plain), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_turns_without_placeholders_come_through_untouched(pairs, others, system):
    names = ("user", "assistant") if others else ("human", "gpt")
    turns = [{"from": name, "value": text} for pair in pairs for name, text in zip(names, pair, strict=True)]
    head = [{"from": "system", "value": "Be brief."}] if system else []
    for has_media in (True, False):
        assert [(qa.question, qa.answer) for qa in pair_turns(head + turns, has_media)] == pairs


@given(st.lists(st.sampled_from([*PLACEHOLDERS, "<image", "<imag", "e>", "\n", "a", " ", "<Image>", "<images>"])))
def test_no_placeholder_is_left_and_nothing_else_is_lost(pieces):
    text = "".join(pieces)
    kept = text.replace("<image>", "").replace("<video>", "")
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "x"}]
    if not kept.strip() or any(p in kept for p in PLACEHOLDERS):
        with pytest.raises(RefusedError):
            pair_turns(turns, has_media=True)
        return
    (pair,) = pair_turns(turns, has_media=True)
    assert not any(p in pair.question for p in PLACEHOLDERS)
    assert "".join(pair.question.split()) == "".join(kept.split())


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("<image>\nWhat?", "What?"),
        ("What?\n<video>", "What?"),
        ("<image><image>\nSame?", "Same?"),
        ("One\n<image>\ntwo", "One\ntwo"),
        ("See<image>\nthis", "See\nthis"),
        ("is <Image> an <images> tag", "is <Image> an <images> tag"),
    ],
)
def test_a_placeholder_goes_without_gluing_or_spacing_what_is_around_it(text, bare):
    (pair,) = pair_turns([{"from": "human", "value": text}, {"from": "gpt", "value": "x"}], has_media=True)
    assert pair.question == bare


@given(st.lists(st.sampled_from(["human", "gpt", "user", "assistant", "system"]), max_size=7))
def test_only_turns_that_alternate_are_paired(roles):
    turns = [{"from": role, "value": "x"} for role in roles]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    speakers = itertools.cycle([("human", "user"), ("gpt", "assistant")])
    fits = (
        bool(spoken) and len(spoken) % 2 == 0 and all(role in s for role, s in zip(spoken, speakers, strict=False))
    )
    if fits:
        assert len(pair_turns(turns, has_media=False)) == len(spoken) // 2
    else:
        with pytest.raises(RefusedError):
            pair_turns(turns, has_media=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conversations": None}, ["conversations", "None", "human first"]),
        ({"conversations": []}, ["conversations", "[]"]),
        ({"conversations": "hi"}, ["'hi'"]),
        ({"conversations": ["hi", "ho"]}, ["conversations[0]", "'hi'", "{from, value}"]),
        ({"conversations": [{"from": "bot", "value": "x"}]}, ["conversations[0].from", "'bot'", "human"]),
        ({"conversations": [{"from": ["x"], "value": "x"}]}, ["['x']"]),
        ({"conversations": [TALK[0], {"from": "gpt", "value": 7}]}, ["conversations[1].value", "7", "string"]),
        ({"conversations": [TALK[0], {"from": "gpt"}]}, ["None"]),
        ({"conversations": TALK[:1]}, ["conversations[0]", "gpt"]),
        ({"conversations": TALK[::-1]}, ["conversations[0].from", "'gpt'", "expected a turn of the user"]),
        ({"conversations": [*TALK, {"from": "system", "value": "x"}]}, ["conversations[2].from", "'system'"]),
        ({"conversations": [{"from": "human", "value": "<image>\n "}, TALK[1]]}, ["nothing is said"]),
        ({"conversations": [{"from": "human", "value": "a<im<image>age>"}, TALK[1]]}, ["inside another"]),
        ({"conversations": [{"from": "human", "value": "x" * 20_001}, TALK[1]]}, ["20001", "20000"]),
        ({"image": None}, ["names none", "add `image`"]),
        ({"image": 3}, ["image is 3", "relative path"]),
        ({"image": ""}, ["image is ''", "leave the field out"]),
        ({"image": []}, ["image is []"]),
        ({"image": ["a.jpg", None]}, ["None"]),
        ({"image": None, "video": ["v.mp4"]}, ["video is ['v.mp4']"]),
        ({"video": "v.mp4"}, ["'v.mp4'", "one or the other"]),
        ({"id": 1.5}, ["id is 1.5", "whole number"]),
        ({"id": True}, ["id is True"]),
    ],
)
def test_an_annotation_that_does_not_fit_is_refused_with_value_and_mend(tmp_path, change, said):
    refused(tmp_path, {"id": 1, "image": "a.jpg", "conversations": TALK, **change}, Reason.BAD_ANNOTATION, *said)


@pytest.mark.parametrize("value", [7, "x", None, [TALK]])
def test_an_entry_that_is_no_object_is_refused(tmp_path, value):
    refused(tmp_path, value, Reason.BAD_ANNOTATION, "the entry is", "give an object")


@pytest.mark.parametrize("path", ["/etc/passwd", "../a.jpg", "b/../../a.jpg", "..", "a\0.jpg"])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_path_that_leaves_the_media_root_is_unsafe(tmp_path, path, kind):
    refused(tmp_path, {"id": 1, kind: path, "conversations": TALK}, Reason.UNSAFE_PATH, repr(path), "without '..'")


def test_one_unsafe_path_among_good_ones_refuses_the_entry(tmp_path):
    refused(tmp_path, {"image": ["a.jpg", "/b.jpg"], "conversations": TALK}, Reason.UNSAFE_PATH, "/b.jpg")


def test_a_link_may_stay_inside_the_media_root_but_not_leave_it(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "root-outside"  # a name that begins alike is another folder
    (root / "real").mkdir(parents=True)
    outside.mkdir()
    (root / "in").symlink_to("real")
    (root / "out").symlink_to(outside)
    (root / "loop").symlink_to("loop")

    def ask(path):
        (outcome,) = read(tmp_path, {"image": path, "conversations": TALK}, media_root=str(root))
        return outcome

    assert isinstance(ask("in/a.jpg"), Sample)
    assert ask("out/a.jpg").reason is Reason.UNSAFE_PATH
    assert "link" in ask("out/a.jpg").detail
    for odd in ("loop/a.jpg", "a" * 5_000, "not/there.jpg"):
        assert isinstance(ask(odd), Sample)  # whether the file is there is the probe's question
