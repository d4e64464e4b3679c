"""An engine that writes talks of the right form about nothing, each in words of its own, with planted faults."""

import asyncio
import json
import random
from collections import Counter

from pipeline.conversations.engine import Completion, Engine, Prompt

STARTS, ENDS = ("ba", "co", "di", "fu", "ge", "ha", "ki", "lo", "mu"), ("lan", "mer", "nit", "sor", "tum")
WORDS = [start + end for start in STARTS for end in ENDS]


class WritingEngine(Engine):
    """Of each sample: `mute` never answers well, `slow_to_learn` answers well at the second try, and all of `twins`
    answer alike. With `mixed_up` texts go to other prompts, under their right names.
    """

    slots = 8

    def __init__(self, *, mute=(), slow_to_learn=(), twins=(), mixed_up=False):
        self.mute, self.slow_to_learn, self.twins = set(mute), set(slow_to_learn), set(twins)
        self.mixed_up = mixed_up
        self.prompt_tokens = 100
        """What each prompt is said to have."""
        self.asked: Counter[str] = Counter()
        self._kept: str | None = None

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    async def ask(self, prompt: Prompt) -> Completion:
        await asyncio.sleep(0.001)
        self.asked[prompt.key] += 1
        bad = prompt.key in self.mute or (prompt.key in self.slow_to_learn and self.asked[prompt.key] == 1)
        text = "no" if bad else write_talk(prompt, "twins" if prompt.key in self.twins else prompt.address)
        if self.mixed_up:
            text, self._kept = self._kept or text, text
        return Completion(
            key=prompt.key,
            address=prompt.address,
            text=text,
            finish="stop",
            prompt_tokens=self.prompt_tokens,
            output_tokens=min(20, prompt.max_tokens),
        )


def write_talk(prompt: Prompt, seed: str) -> str:
    """A reply of the form that the prompt asks for."""
    schema = json.loads(prompt.answer_schema)
    rng = random.Random(seed)
    rounds = [
        {"question": f"What {_said(rng, 7)}?", "reply": f"It {_said(rng, 12)}."}
        for _ in range(schema["properties"]["rounds"]["maxItems"])
    ]
    return json.dumps({"id": schema["properties"]["id"]["const"], "rounds": rounds})


def _said(rng: random.Random, number: int) -> str:
    return " ".join(rng.choices(WORDS, k=number))
