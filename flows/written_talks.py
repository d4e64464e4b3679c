"""Talks that a chat model wrote, of a whole build: which of them are near-copies, and what it took to write them.

Over a whole set, so no stage can see it: the build looks at each wave of talks once, before it decodes anything.
"""

import base64
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.conversations.minhash import near_copies
from pipeline.plan.choose import rank_hash
from schemas.base import Record
from schemas.conversation import Conversation, Effort
from schemas.ledger import Written
from schemas.recipe import ConversationSpec
from schemas.rejection import Reason, Rejection


class WrittenTalks:
    """Those that stay, in the order in which they have a right to; and all efforts, those in vain too."""

    def __init__(self, spec: ConversationSpec, seed: int) -> None:
        """`seed` of the recipe: within a wave its ranks decide, so that a larger mixture decides the same."""
        self._spec = spec
        self._seed = seed
        self._keys: list[str] = []
        self._signatures: list[NDArray[np.uint32]] = []
        self._accepted = Counter[int]()
        self._faults = Counter[str]()
        self._asked = self._prompt_tokens = self._output_tokens = self._copies = 0

    def add(self, outcomes: Iterable[Record]) -> list[Rejection]:
        """Takes in a wave; those of it that are near-copies are refused, and forgotten here.

        Of a template's talks there is nothing to know, so they are not read.
        """
        if self._spec.generator == "template":
            return []
        new: dict[str, NDArray[np.uint32]] = {}
        for outcome in outcomes:
            if isinstance(outcome, Conversation | Rejection) and outcome.effort:
                self._count(outcome.effort, isinstance(outcome, Conversation))
            if isinstance(outcome, Conversation) and outcome.minhash:
                new[outcome.key] = np.frombuffer(base64.b64decode(outcome.minhash), "<u4")
        return self._refuse(new) if new else []

    def account(self) -> Written | None:
        """For the ledger; None where no chat model was asked."""
        if self._spec.generator == "template":
            return None
        return Written(
            model=self._spec.writer,
            asked=self._asked,
            accepted=tuple(self._accepted[number] for number in range(1, self._spec.tries + 1)),
            faults=dict(sorted(self._faults.items(), key=lambda each: (-each[1], each[0]))),
            copies=self.copies,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens,
        )

    @property
    def copies(self) -> int:
        """Talks that were refused."""
        return self._copies

    def _count(self, effort: Effort, is_accepted: bool) -> None:
        self._asked += 1
        self._accepted[effort.tries] += is_accepted
        self._faults.update(effort.faults)
        self._prompt_tokens += effort.prompt_tokens
        self._output_tokens += effort.output_tokens

    def _refuse(self, new: dict[str, NDArray[np.uint32]]) -> list[Rejection]:
        before = len(self._keys)
        by_rank = sorted(new, key=lambda key: rank_hash(self._seed, key))
        keys, signatures = [*self._keys, *by_rank], [*self._signatures, *(new[key] for key in by_rank)]
        found = {
            int(copy): int(original)
            for copy, original in near_copies(np.stack(signatures), np.arange(len(keys), dtype=np.int64))
            if copy >= before
        }
        stay = [row for row in range(len(keys)) if row not in found]
        self._keys, self._signatures = [keys[row] for row in stay], [signatures[row] for row in stay]
        self._copies += len(found)
        return [_refused(keys[copy], keys[original]) for copy, original in found.items()]


def _refused(key: str, original: str) -> Rejection:
    detail = f"its talk shares four fifths or more of its words, in runs of five, with that of {original}"
    return Rejection(key=key, stage="conversations", reason=Reason.NEAR_COPY, detail=detail)
