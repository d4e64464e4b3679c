"""An engine whose replies are a function of the prompt, and which dies, hangs, refuses and mixes up as planned."""

import asyncio
from collections import Counter
from pathlib import Path

from pipeline.conversations.engine import Completion, Engine, EngineLostError, Message, Prompt, RequestError


def make_prompt(number: int, *, key: str | None = None, words: str = "Say", max_tokens: int = 50) -> Prompt:
    """Number `number`; the key decides nothing."""
    return Prompt(
        key=key or f"k{number}",
        model_sha256="0" * 64,
        messages=(Message(role="user", content=f"{words} {number}."),),
        answer_schema="{}",
        max_tokens=max_tokens,
        temperature=0.7,
        top_p=0.9,
        seed=number,
    )


def reply_to(prompt: Prompt) -> Completion:
    """What every undisturbed engine answers."""
    return Completion(
        key=prompt.key,
        address=prompt.address,
        text=f"reply to {prompt.address}",
        finish="stop",
        prompt_tokens=10,
        cached_tokens=4,
        output_tokens=prompt.max_tokens // 2,
    )


class FakeEngine(Engine):
    """Plans are addresses: `killed` dies at the first ask of it (a kill from outside), `poison` at each."""

    def __init__(
        self, slots=4, *, poison=(), killed=(), hanging=(), refused=(), swapped=(), log: Path | None = None
    ):
        self.slots = slots
        self.poison, self.killed, self.hanging = set(poison), set(killed), set(hanging)
        self.refused, self.swapped = set(refused), set(swapped)
        self.log = log
        self.delay_s = 0.001
        self.ill = False
        """Dies at every ask."""
        self.faulty_starts = 0
        """How many of the next starts fail."""
        self.starts = self.stops = 0
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.flying = self.most_flying = 0
        self._life = 0
        """Number of the present life; 0 while dead."""
        self._hung = False

    def start(self) -> None:
        self.starts += 1
        if self.faulty_starts:
            self.faulty_starts -= 1
            raise EngineLostError("no room on the GPU")
        self._life, self._hung = self.starts, False

    def stop(self) -> None:
        self.stops += 1
        self._life = 0

    async def ask(self, prompt: Prompt) -> Completion:
        address, life = prompt.address, self._life
        self.asked[address] += 1
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{address}\n")
        self.flying += 1
        self.most_flying = max(self.flying, self.most_flying)
        try:
            await asyncio.sleep(self.delay_s * (int(address[:2], 16) % 4))
            if self._hung:
                await asyncio.Event().wait()
            if address in self.killed | self.poison or self.ill:
                self.killed.discard(address)
                self._life = 0
            if not life or self._life != life:
                raise EngineLostError("the core died")
            if address in self.hanging:
                self._hung = True
                await asyncio.Event().wait()
            if address in self.refused:
                raise RequestError("too long")
            self.answered[address] += 1
            return reply_to(prompt).model_copy(update={"key": "other"} if address in self.swapped else {})
        finally:
            self.flying -= 1
