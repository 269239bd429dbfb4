"""How connections come to lie evenly: who has too many lets some dial anew."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.supervisor.spread import excess


def test_who_has_more_than_a_fair_part_has_too_many_by_the_rest() -> None:
    assert excess({0: 312, 1: 312, 2: 312, 3: 64}) == {0: 49, 1: 49, 2: 49}
    assert excess({0: 7, 1: 5, 2: 4, 3: 0}) == {0: 2}
    assert excess({0: 1, 1: 0, 2: 0, 3: 0}) == {}
    assert excess({}) == excess({0: 1000}) == {}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=1000), st.integers(0, 2**32))
def test_dialling_anew_at_random_makes_it_even_soon(began: list[int], seed: int) -> None:
    """Wherever they were: in some tens of rounds nobody has too many, and with many nobody has few."""
    rng, workers = random.Random(seed), Counter(began)
    held = {index: workers[index] for index in range(4)}
    for _ in range(100):
        anew = excess(held)
        if not anew:
            break
        for index, count in anew.items():
            held[index] -= count
        for _ in range(sum(anew.values())):
            held[rng.randrange(4)] += 1
    assert not excess(held)
    if len(began) >= 200:
        assert max(held.values()) / min(held.values()) <= 1.3
