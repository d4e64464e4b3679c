"""Samples to talk about, by hand and by hypothesis."""

from hypothesis import strategies as st

from schemas.sample import (
    Annotation,
    Caption,
    Category,
    Generator,
    MediaRef,
    Modality,
    QuestionAnswer,
    Sample,
    TimedEvent,
)

SECOND = 1_000_000_000
FILM_S = 5_000
"""Length of every film here, s."""

_MEDIA = {
    Modality.TEXT: (),
    Modality.IMAGE: (MediaRef(kind="image", path="a.png"),),
    Modality.MULTI_IMAGE: (MediaRef(kind="image", path="a.png"), MediaRef(kind="image", path="b.png")),
    Modality.VIDEO: (MediaRef(kind="video", path="a.mp4", duration_ns=FILM_S * SECOND),),
}


def make_sample(*annotations: Annotation, key: str = "a", modality: Modality = Modality.VIDEO) -> Sample:
    return Sample(
        key=key,
        source="test",
        modality=modality,
        category=Category.CONVERSATIONAL,
        media=_MEDIA[modality],
        annotations=annotations,
        licence="CC0-1.0",
        annotator=Generator(name="human"),
    )


def event(start_s: float, end_s: float, text: str) -> TimedEvent:
    return TimedEvent(start_ns=int(start_s * SECOND), exclusive_end_ns=int(end_s * SECOND), text=text)


_words = st.text("abc {}“é\n:0123", min_size=1, max_size=20).filter(str.strip)
captions = st.builds(Caption, text=_words.map("A caption of {}".format))
events = st.builds(
    lambda start, length, text: TimedEvent(start_ns=start, exclusive_end_ns=start + length, text=text),
    st.integers(0, (FILM_S - 10) * SECOND) | st.integers(0, 5 * SECOND),
    st.integers(1, 10 * SECOND),
    _words.map("An event {}".format),
)
questions = st.builds(
    QuestionAnswer, question=_words.map("Is it {}?".format), answer=_words, topic=st.sampled_from(["", "colour"])
)
samples = st.builds(
    lambda annotations, key, modality: make_sample(*annotations, key=key, modality=modality),
    st.lists(captions | events | questions, min_size=1, max_size=12),
    st.from_regex(r"[a-z0-9_-]{1,10}", fullmatch=True),
    st.sampled_from(Modality),
)
