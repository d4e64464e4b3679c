"""LLaVA's turns as question and answer pairs."""

import re
import reprlib

from schemas.rejection import Reason
from schemas.sample import QuestionAnswer

_MAX_TEXT = 20_000
"""Characters of a turn; the limit of `QuestionAnswer`."""

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}

_PLACEHOLDER = re.compile(r"^(?:<(?:image|video)>)+\n|<(?:image|video)>", re.MULTILINE)
"""A line of nothing but placeholders goes with its line break, so that no empty line is left."""

_show = reprlib.Repr()
_show.maxstring = _show.maxother = 160


class RefusedError(Exception):
    """Why an entry cannot become a sample: the source turns it into a `Rejection`."""

    def __init__(self, reason: Reason, what: str, value: object, mend: str) -> None:
        super().__init__(f"{what} is {_show.repr(value)}: {mend}")
        self.reason = reason


def bad(what: str, value: object, mend: str) -> RefusedError:
    """An annotation that does not fit: what was looked at, the value seen and the mend."""
    return RefusedError(Reason.BAD_ANNOTATION, what, value, mend)


def pair_turns(turns: object, has_media: bool) -> tuple[QuestionAnswer, ...]:
    """`conversations` as pairs, in order; topic and evidence are unknown and stay empty.

    A system turn at the head is dropped: it instructs a model and says nothing of the media.
    `<image>` and `<video>` are taken out, as media always come before the first turn, and so are
    blanks at both ends; nothing else is touched. Raises RefusedError for wrong types, for turns
    that do not alternate, and for a placeholder in an entry without media: its medium is lost.
    """
    if not isinstance(turns, list) or not turns:
        raise bad("conversations", turns, "give a list of {from, value} turns, human first")
    said = [_said(index, turn) for index, turn in enumerate(turns)]
    first = 1 if said[0][0] == "system" else 0
    for index, (role, _) in enumerate(said[first:], start=first):
        expected = ("user", "assistant")[(index - first) % 2]
        if role != expected:
            raise bad(f"conversations[{index}].from", turns[index]["from"], f"expected a turn of the {expected}")
    if len(said) == first or (len(said) - first) % 2:
        raise bad(f"conversations[{len(said) - 1}]", turns[-1], "add the answer of gpt: the last turn has none")
    texts = [_bare(index, text, has_media) for index, (_, text) in enumerate(said[first:], start=first)]
    return tuple(
        QuestionAnswer(question=question, answer=answer)
        for question, answer in zip(texts[::2], texts[1::2], strict=True)
    )


def _said(index: int, turn: object) -> tuple[str, str]:
    """Role and words of one turn."""
    place = f"conversations[{index}]"
    if not isinstance(turn, dict):
        raise bad(place, turn, "a turn is an object {from, value}")
    role, text = turn.get("from"), turn.get("value")
    if not isinstance(role, str) or role not in _ROLES:
        raise bad(f"{place}.from", role, f"give one of {', '.join(_ROLES)}")
    if not isinstance(text, str):
        raise bad(f"{place}.value", text, "the words of a turn are a string")
    if len(text) > _MAX_TEXT:
        raise bad(f"{place}.value", text, f"it has {len(text)} characters; {_MAX_TEXT} are the most")
    return _ROLES[role], text


def _bare(index: int, text: str, has_media: bool) -> str:
    """The words without placeholders."""
    place, bare = f"conversations[{index}].value", _PLACEHOLDER.sub("", text)
    if _PLACEHOLDER.search(bare):
        raise bad(place, text, "a placeholder stands inside another; write them apart")
    if bare != text and not has_media:
        raise bad(place, text, "it speaks of a medium, but the entry names none; add `image` or `video`")
    if not (bare := bare.strip()):
        raise bad(place, text, "nothing is said beside placeholders and blanks")
    return bare
