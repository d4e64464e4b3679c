"""Talks that a chat model wrote and that say nearly what another one says: of those the first stays.

Over a whole set, so no stage can see it: the build looks at each wave of talks before it decodes anything.
"""

import base64
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.conversations.minhash import near_copies
from pipeline.plan.choose import rank_hash
from schemas.conversation import Conversation
from schemas.rejection import Reason, Rejection


class WrittenTalks:
    """The written talks of a build that stay, in the order in which they have a right to."""

    def __init__(self, seed: int) -> None:
        """`seed` of the recipe: within a wave its ranks decide, so that a larger mixture decides the same."""
        self._seed = seed
        self._keys: list[str] = []
        self._signatures: list[NDArray[np.uint32]] = []

    def add(self, talks: Iterable[Conversation]) -> list[Rejection]:
        """Takes in a wave; those of it that are near-copies are refused, and forgotten here."""
        new = sorted((t for t in talks if t.minhash), key=lambda talk: rank_hash(self._seed, talk.key))
        if not new:
            return []
        before = len(self._keys)
        keys = [*self._keys, *(talk.key for talk in new)]
        signatures = [*self._signatures, *(_signature(talk) for talk in new)]
        found = {
            int(copy): int(original)
            for copy, original in near_copies(np.stack(signatures), np.arange(len(keys), dtype=np.int64))
            if copy >= before
        }
        stay = [row for row in range(len(keys)) if row not in found]
        self._keys, self._signatures = [keys[row] for row in stay], [signatures[row] for row in stay]
        return [_refused(keys[copy], keys[original]) for copy, original in found.items()]


def _signature(talk: Conversation) -> NDArray[np.uint32]:
    return np.frombuffer(base64.b64decode(talk.minhash), "<u4")


def _refused(key: str, original: str) -> Rejection:
    detail = f"its talk shares four fifths or more of its words, in runs of five, with that of {original}"
    return Rejection(key=key, stage="conversations", reason=Reason.NEAR_COPY, detail=detail)
