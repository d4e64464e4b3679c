"""Who ended the engine: whoever was in flight is asked again, by halves, until one is left.

Pure decisions; `serving` asks. Of n in flight one culprit is found within log2(n) + 3 losses, and a kill
from outside costs one.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

LOSSES_IN_DOUBT = 2
"""In flight at so many losses is a suspect; at the first one it may have been anything."""
LOSSES_ALONE = 2
"""With nothing else in flight, and nobody else can be to blame; once may be chance."""


@dataclass(eq=False)
class Suspect:
    """Somebody who may be in flight."""

    losses: int = 0
    """At which it was in flight."""
    alone: int = 0
    """Of these, with nothing else in flight."""


AnySuspect = TypeVar("AnySuspect", bound=Suspect)


class Suspects(Generic[AnySuspect]):
    """The search for one culprit; idle while `active` is False."""

    def __init__(self) -> None:
        self.active = False
        """Nobody but `group` may be asked."""
        self.group: deque[AnySuspect] = deque()
        """To be asked now; who asks takes them out."""
        self._rest: list[AnySuspect] = []

    def lost(self, flying: Sequence[AnySuspect]) -> tuple[AnySuspect | None, list[AnySuspect]]:
        """The engine was lost with these in flight.

        Returns:
            The culprit, if that is certain; and those who may be asked again like anybody else.
        """
        freed = [*self.group, *self._rest]
        self._search([])
        for each in flying:
            each.losses += 1
            each.alone += len(flying) == 1
            if each.alone == LOSSES_ALONE:
                return each, freed
        self._search([each for each in flying if each.losses >= LOSSES_IN_DOUBT])
        return None, [each for each in flying if each.losses < LOSSES_IN_DOUBT] + freed

    def advance(self) -> None:
        """Nobody is in flight: if all of the group was asked and is well, the culprit is in the other half."""
        if not self.group:
            self._search(self._rest)

    def _search(self, suspects: list[AnySuspect]) -> None:
        half = (len(suspects) + 1) // 2
        self.active, self.group, self._rest = bool(suspects), deque(suspects[:half]), suspects[half:]
