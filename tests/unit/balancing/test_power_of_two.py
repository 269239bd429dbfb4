"""The less loaded of two different ones."""

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from router.balancing.power_of_two import PowerOfTwo


@dataclass
class Candidate:
    """Not equal to another of the same load."""

    name: int
    load: float = 0.0


def fleet(*loads: float) -> list[Candidate]:
    return [Candidate(name, load) for name, load in enumerate(loads)]


class Drawn(random.Random):
    """Draws what it is told to."""

    def __init__(self, *draws: float) -> None:
        super().__init__()
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0)


def test_one_is_taken_without_a_draw() -> None:
    only = fleet(9.0)
    assert PowerOfTwo(Drawn()).pick(only) is only[0]


@given(st.integers(2, 40), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), st.data())
def test_the_two_that_are_compared_are_never_the_same(n: int, first: float, second: float, data: st.DataObject) -> None:
    """All but the drawn first are idle, so the first must lose against whoever is its rival, always."""
    candidates = fleet(*[0.0] * n)
    candidates[int(first * n)].load = 1.0

    assert PowerOfTwo(Drawn(first, second)).pick(candidates).load == 0.0


def test_the_worst_is_never_taken_where_there_is_another() -> None:
    candidates = fleet(5.0, 1.0, 2.0, 3.0)
    balancer = PowerOfTwo(random.Random(1))
    picked = Counter(balancer.pick(candidates).name for _ in range(2000))
    assert picked[0] == 0
    assert picked[1] > picked[2] > picked[3] > 0


def test_equal_ones_share_equally() -> None:
    for n in (2, 3, 7):
        candidates, balancer = fleet(*[1.0] * n), PowerOfTwo(random.Random(n))
        picked = Counter(balancer.pick(candidates).name for _ in range(3000 * n))
        assert all(abs(count - 3000) < 250 for count in picked.values()), picked


def test_every_pair_is_compared_equally_often() -> None:
    """With strictly ordered loads the shares are known: of n = 4, 1/2, 1/3, 1/6 and none."""
    candidates, balancer = fleet(1.0, 2.0, 3.0, 4.0), PowerOfTwo(random.Random(4))
    picked = Counter(balancer.pick(candidates).name for _ in range(12_000))
    for name, share in ((0, 1 / 2), (1, 1 / 3), (2, 1 / 6), (3, 0.0)):
        assert abs(picked[name] / 12_000 - share) < 0.02


def test_load_spreads_by_itself() -> None:
    """Each pick adds load and none is given back: no one is far ahead of the mean."""
    candidates, balancer = fleet(*[0.0] * 10), PowerOfTwo(random.Random(3))
    for _ in range(10_000):
        balancer.pick(candidates).load += 1
    loads = [candidate.load for candidate in candidates]
    assert max(loads) - min(loads) < 12  # a single random choice would spread by about a hundred
