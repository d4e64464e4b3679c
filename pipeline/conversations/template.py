"""The generator `template`: words the annotations as they are, with no model and no invention.

An event is told as a sentence, with a capital and a full stop; all else is verbatim.

A talk is laid out so that no answer is given away before it is asked for, as far as room allows:

    [caption]  question-answer pairs, verbatim   single events   account of all events  [caption]
    '---- one of the two places, by lot ----------------------------------------------------'

Room is given first to the pairs, then to the caption, the account and the single events.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from pipeline.conversations.clock import NS_PER_SECOND, span
from pipeline.conversations.generator import MAX_CHARACTERS, ConversationGenerator, Reply, Request, SpokenTurn
from pipeline.conversations.templates import Templates, load_templates
from schemas.conversation import Role
from schemas.sample import Modality, QuestionAnswer, TimedEvent

Round = tuple[str, str]
"""What the user says, what the assistant says."""


class TemplateGenerator(ConversationGenerator):
    """Deterministic: the reply is a function of the request and the template file."""

    def generate(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply a request, in order."""
        templates, provenance = load_templates()
        return [
            request.reply(_turns(compose(request, templates, Random(request.seed))), provenance)
            for request in requests
        ]


def compose(request: Request, templates: Templates, rng: Random) -> list[Round]:
    """The rounds of one talk, at most `request.max_turns`."""
    talk = _Talk(templates, rng, request.max_turns)
    pairs = talk.pairs(request.questions)
    caption = talk.caption(request.captions, request.modality)
    events = _distinct(request.events)
    account = talk.account(events)
    singles = talk.single_events(events)
    body = [*pairs, *singles, *account]
    return caption + body if rng.random() < 0.5 else body + caption


class _Talk:
    """Room and questions of one talk: what is asked once is not asked again."""

    def __init__(self, templates: Templates, rng: Random, room: int) -> None:
        self._templates = templates
        self._rng = rng
        self._room = room
        self._asked: set[str] = set()

    def pairs(self, questions: Sequence[QuestionAnswer]) -> list[Round]:
        """Annotated pairs, unaltered and in their order; a pair that stands there twice is said once.

        Where there are too many: questions with a topic stand alone, so lots are drawn among them;
        others may lean on the ones before, so the first are kept.
        """
        rounds = list(dict.fromkeys((pair.question, pair.answer) for pair in questions))
        if len(rounds) > self._room and all(pair.topic for pair in questions):
            rounds = [rounds[index] for index in sorted(self._rng.sample(range(len(rounds)), self._room))]
        return self._take(rounds[: self._room])

    def caption(self, captions: Sequence[str], modality: Modality) -> list[Round]:
        """One caption, by lot where there are several: they tell of the same thing."""
        if not captions or not self._room:
            return []
        answer = self._rng.choice(captions)
        return self._ask(self._templates.caption[modality], answer)

    def account(self, events: Sequence[TimedEvent]) -> list[Round]:
        """All events in order of time, one a line; needs two, and a turn that can hold them."""
        answer = "\n".join(map(self._line, events))
        if len(events) < 2 or len(answer) > MAX_CHARACTERS or not self._room:
            return []
        return self._ask(self._templates.account.questions, answer)

    def single_events(self, events: Sequence[TimedEvent]) -> list[Round]:
        """Events by lot, in order of time, each asked for by its time or by its text, never by both.

        Only where the question has one answer: a text that tells of one event, a time that no other shares.
        """
        names, alone = Counter(map(_name, events)), _alone_in_time(events)
        ways = [
            [self._when] * (names[_name(event)] == 1) + [self._what] * alone[index]
            for index, event in enumerate(events)
        ]
        clear = [index for index, choices in enumerate(ways) if choices]
        drawn = sorted(self._rng.sample(clear, min(self._room, len(clear))))
        return [turn for index in drawn for turn in self._rng.choice(ways[index])(events[index])]

    def _when(self, event: TimedEvent) -> list[Round]:
        answer = self._rng.choice(self._templates.when.answers).format(span=_span(event))
        return self._ask([t.format(event=_name(event)) for t in self._templates.when.questions], answer)

    def _what(self, event: TimedEvent) -> list[Round]:
        return self._ask([t.format(span=_span(event)) for t in self._templates.what.questions], _sentence(event))

    def _line(self, event: TimedEvent) -> str:
        when = _span(event)
        return self._templates.account.line.format(Span=when[0].upper() + when[1:], text=_sentence(event))

    def _ask(self, phrasings: Sequence[str], answer: str) -> list[Round]:
        fresh = [phrasing for phrasing in phrasings if phrasing not in self._asked]
        return self._take([(self._rng.choice(fresh), answer)]) if fresh else []

    def _take(self, rounds: list[Round]) -> list[Round]:
        self._room -= len(rounds)
        self._asked.update(question for question, _ in rounds)
        return rounds


def _distinct(events: Sequence[TimedEvent]) -> list[TimedEvent]:
    """Without those that the clock and the words cannot tell from an earlier one."""
    told: dict[tuple[str, str], TimedEvent] = {}
    for event in events:
        told.setdefault((_span(event), _name(event)), event)
    return list(told.values())


def _alone_in_time(events: Sequence[TimedEvent]) -> list[bool]:
    """Whether the clock's span of each event touches no other: then `what happens then` has one answer."""
    seconds = []
    for event in events:
        first = event.start_ns // NS_PER_SECOND
        seconds.append((first, max(first + 1, event.exclusive_end_ns // NS_PER_SECOND)))
    overlaps = [sum(start < end_ and start_ < end for start_, end_ in seconds) for start, end in seconds]
    return [count == 1 for count in overlaps]


def _name(event: TimedEvent) -> str:
    return event.text.strip().removesuffix(".")


def _sentence(event: TimedEvent) -> str:
    text = event.text.strip()
    return f"{text[0].upper()}{text[1:]}{'.' * text[-1].isalnum()}"


def _span(event: TimedEvent) -> str:
    return span(event.start_ns, event.exclusive_end_ns)


def _turns(rounds: Sequence[Round]) -> Iterator[SpokenTurn]:
    for question, answer in rounds:
        yield SpokenTurn(role=Role.USER, content=question)
        yield SpokenTurn(role=Role.ASSISTANT, content=answer)
