r"""ChatML token ids of a talk, with places kept for vision tokens and labels on the answers alone.

    <|im_start|>system\nYou are a helpful vision-language assistant.<|im_end|>
    <|im_start|>user\nclip from 00:00-00:02:VVVV,\nclip from 00:02-00:04:VVVV\n\nWhat moves?<|im_end|>
    <|im_start|>assistant\nA disc.<|im_end|>

The words before a clip are the ones Apollo's Table 2 found best; separators are those of its
released prompt. How an image is announced the paper leaves out: `image 1:` is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.arrays import ClipTimes
from schemas.conversation import Role, Turn
from schemas.sample import Modality

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SYSTEM = "You are a helpful vision-language assistant."
IGNORE = -100
"""Label of a token that the loss passes over (torch's `ignore_index`)."""
VISION = -200
"""Stands in the ids for one vision token (Apollo's `X_TOKEN_INDEX`); never a row of the embedding."""
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


@dataclass(frozen=True)
class Talk:
    """A talk as numbers, one of each a token."""

    ids: tuple[int, ...]
    """VISION where a vision token goes."""
    labels: tuple[int, ...]
    """IGNORE where nothing is learnt."""
    weights: tuple[float, ...]
    """1 / n on each token of an answer of n tokens, so that every answer weighs the same; 0 elsewhere."""
    rounds: tuple[int, ...]
    """0 for what every round sees; k for the k-th round, blind to the others. All 0 in an ordinary talk."""

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, length: int) -> "Talk":
        """The first `length` tokens. Raises ValueError when that would cut vision tokens away."""
        if VISION in self.ids[length:]:
            raise ValueError(
                f"{self.ids.count(VISION)} vision tokens do not fit into {length} tokens: "
                "lower train.max_clips or train.tokens_per_frame, or raise train.max_tokens"
            )
        return Talk(self.ids[:length], self.labels[:length], self.weights[:length], self.rounds[:length])


def clip_labels(modality: Modality, clips: Sequence[ClipTimes]) -> tuple[str, ...]:
    """The words before each clip's tokens. Minutes go past 59; fractions of a second are cut off.

    >>> clip_labels(Modality.IMAGE, [ClipTimes(start_ns=0, exclusive_end_ns=0, t_ns=(0,), pts_ns=(0,))])
    ('image 1:',)
    """
    if modality is Modality.VIDEO:
        return tuple(f"clip from {_clock(c.start_ns)}-{_clock(c.exclusive_end_ns)}:" for c in clips)
    return tuple(f"image {number}:" for number in range(1, len(clips) + 1))


def _clock(time_ns: int) -> str:
    seconds = time_ns // 1_000_000_000
    return f"{seconds // 60:02d}:{seconds % 60:02d}"


class ChatMl:
    """Writes talks as ids. Text is data: a `<|im_end|>` typed inside it stays plain text.

    `tokenizer` must know ChatML's three special tokens; ValueError names the one it lacks.
    """

    def __init__(self, tokenizer: "Tokenizer", tokens_per_clip: int) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True  # "encode them as text", in this library's words
        self.tokens_per_clip = tokens_per_clip
        self.start, self.end, self.pad = (self._special(token) for token in (START, END, PAD))

    def talk(self, labels: Sequence[str], turns: Sequence[Turn], apart: bool = False) -> Talk:
        """A whole talk; media announced by `labels` come before the words of its first user turn.

        With `apart` every round follows the media directly: several talks of one round in one sequence.
        """
        opening = [self.start, *self._text(f"{Role.USER}\n")]
        ids = [*self._system(), *opening, *self._media(labels)]
        learnt, weights, rounds = [IGNORE] * len(ids), [0.0] * len(ids), [0] * len(ids)
        for number, (asked, said) in enumerate(zip(turns[::2], turns[1::2], strict=True), start=1):
            question = self._question(asked.content)
            if not apart:
                question = (opening if number > 1 else []) + question
            answer, after = [*self._text(said.content), self.end], self._text("\n")
            ids += [*question, *answer, *after]
            learnt += [*[IGNORE] * len(question), *answer, *[IGNORE] * len(after)]
            weights += [*[0.0] * len(question), *[1 / len(answer)] * len(answer), *[0.0] * len(after)]
            rounds += [number * apart] * (len(question) + len(answer) + len(after))
        return Talk(tuple(ids), tuple(learnt), tuple(weights), tuple(rounds))

    def question(self, labels: Sequence[str], question: str) -> Talk:
        """A talk of one question, up to where the answer begins."""
        opening = [self.start, *self._text(f"{Role.USER}\n")]
        ids = (*self._system(), *opening, *self._media(labels), *self._question(question))
        return Talk(ids, (IGNORE,) * len(ids), (0.0,) * len(ids), (0,) * len(ids))

    def read(self, ids: Sequence[int]) -> str:
        """Text of an answer: everything before the first `<|im_end|>`."""
        answer = list(ids)
        if self.end in answer:
            answer = answer[: answer.index(self.end)]
        text: str = self.tokenizer.decode(answer)
        return text

    def _system(self) -> list[int]:
        return [self.start, *self._text(f"system\n{SYSTEM}"), self.end, *self._text("\n")]

    def _question(self, question: str) -> list[int]:
        """The user's words and what stands between them and the answer."""
        return [*self._text(question), self.end, *self._text("\n"), self.start, *self._text(f"{Role.ASSISTANT}\n")]

    def _media(self, labels: Sequence[str]) -> list[int]:
        ids: list[int] = []
        for number, label in enumerate(labels):
            after = "\n\n" if number == len(labels) - 1 else ",\n"
            ids += [*self._text(label), *[VISION] * self.tokens_per_clip, *self._text(after)]
        return ids

    def _text(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _special(self, token: str) -> int:
        number: int | None = self.tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"the tokenizer lacks {token}: take a checkpoint with ChatML tokens, such as Qwen2.5")
        return number


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> "Tokenizer":
    """A byte-level BPE of at most `vocabulary` tokens (at least the 256 bytes and 3 specials) from `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
