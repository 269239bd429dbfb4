"""How long a place stays empty."""

import random

from hypothesis import given
from hypothesis import strategies as st

from router.supervisor.backoff import FIRST_S, FORGIVEN_S, HEALTHY_S, JITTER, LONGEST_S, Backoff


class NoJitter(random.Random):
    def random(self) -> float:
        return 0.0


def test_the_first_come_back_at_once_and_the_next_ones_later_and_later() -> None:
    backoff = Backoff(NoJitter())
    waits = [backoff.next_s(0.0) for _ in range(12)]
    assert waits == [0.0, 0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_who_lived_long_was_not_ended_by_the_same_cause() -> None:
    backoff = Backoff(NoJitter())
    for _ in range(8):
        backoff.next_s(0.0)
    assert [backoff.next_s(lived_s) for lived_s in (HEALTHY_S, 0.0, 0.0, 0.0)] == [0.0, 0.0, 0.0, 0.5]


def test_deaths_that_are_seconds_apart_are_never_waited_for() -> None:
    """Somebody who kills a random one of four every two seconds ends each after eight, more or less."""
    backoff, rng = Backoff(NoJitter()), random.Random(7)
    assert max(backoff.next_s(FORGIVEN_S) for _ in range(100)) == 0.0
    assert max(backoff.next_s(2.0 * rng.randrange(2, 8)) for _ in range(100)) <= FIRST_S


@given(st.lists(st.floats(0.0, 1e6), max_size=200), st.integers(0, 2**32))
def test_no_wait_is_longer_than_the_longest_or_jitters_by_more_than_its_share(lives: list[float], seed: int) -> None:
    backoff, plain = Backoff(random.Random(seed)), Backoff(NoJitter())
    for lived_s in lives:
        wait_s, full_s = backoff.next_s(lived_s), plain.next_s(lived_s)
        assert (1.0 - JITTER) * full_s <= wait_s <= full_s <= LONGEST_S
