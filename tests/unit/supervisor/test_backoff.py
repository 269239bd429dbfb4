"""How long a place stays empty."""

import random

from hypothesis import given
from hypothesis import strategies as st

from router.supervisor.backoff import HEALTHY_S, JITTER, LONGEST_S, Backoff


class NoJitter(random.Random):
    def random(self) -> float:
        return 0.0


def test_the_first_comes_back_at_once_and_the_next_ones_later_and_later() -> None:
    backoff = Backoff(NoJitter())
    assert [backoff.next_s(1.0) for _ in range(9)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_who_lived_long_was_not_ended_by_the_same_cause() -> None:
    backoff = Backoff(NoJitter())
    for _ in range(5):
        backoff.next_s(1.0)
    assert [backoff.next_s(HEALTHY_S), backoff.next_s(1.0)] == [0.0, 0.5]


@given(st.lists(st.floats(0.0, 1e6), max_size=200), st.integers(0, 2**32))
def test_no_wait_is_longer_than_the_longest_or_jitters_by_more_than_its_share(lives: list[float], seed: int) -> None:
    backoff, plain = Backoff(random.Random(seed)), Backoff(NoJitter())
    for lived_s in lives:
        wait_s, full_s = backoff.next_s(lived_s), plain.next_s(lived_s)
        assert (1.0 - JITTER) * full_s <= wait_s <= full_s <= LONGEST_S
