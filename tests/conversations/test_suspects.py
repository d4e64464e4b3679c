"""The search for the culprit, without an engine: who is asked, and at how many losses."""

import math

from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversations.suspects import Suspect, Suspects


def search(slots: int, total: int, poison: set[int], kills: set[int]) -> tuple[set[int], int]:
    """Asks `total` with `slots` in flight; who is poison ends the engine before anybody is answered.

    `kills` are the rounds that are ended from outside. Returns who was found, and how often the engine was lost.
    """
    everybody = [Suspect() for _ in range(total)]
    culprits = {everybody[number] for number in poison}
    suspects: Suspects[Suspect] = Suspects()
    queue, found, losses, rounds = list(everybody), set(), 0, 0
    while queue or suspects.active:
        suspects.advance()
        if suspects.active:
            flying = [suspects.group.popleft() for _ in range(min(slots, len(suspects.group)))]
        else:
            flying, queue = queue[:slots], queue[slots:]
        rounds += 1
        if flying and (culprits & set(flying) or rounds in kills):
            losses += 1
            culprit, freed = suspects.lost(flying)
            found |= {everybody.index(culprit)} if culprit else set()
            queue = freed + queue
    return found, losses


def limit(slots: int, faults: int) -> int:
    return faults * (math.ceil(math.log2(slots)) + 3)


def test_a_kill_from_outside_costs_one_loss():
    assert search(256, 1000, set(), {2}) == (set(), 1)


def test_one_poison_among_256_in_flight_is_found_within_eleven_losses():
    counts = [search(256, 256, {number}, set()) for number in range(256)]
    assert all(found == {number} for number, (found, _) in enumerate(counts))
    assert max(losses for _, losses in counts) == limit(256, 1) == 11
    assert sum(losses for _, losses in counts) / 256 < 8


@given(st.integers(1, 32), st.integers(1, 60), st.sets(st.integers(0, 59), max_size=6), st.sets(st.integers(1, 30)))
def test_every_poison_is_found_and_no_other_whatever_ends_the_engine_besides(slots, total, poison, kills):
    poison = {number for number in poison if number < total}
    found, losses = search(slots, total, poison, kills)
    assert found >= poison
    assert losses <= limit(slots, len(poison) + len(kills))
    if not kills:
        assert found == poison
    # Innocents are blamed only where kills hit one and the same, alone, twice.
    assert 2 * len(found - poison) <= len(kills)
