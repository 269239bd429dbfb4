"""Power of two choices."""

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """A candidate. `load`: outstanding work in proportion to capacity; less is better."""

    @property
    def load(self) -> float: ...


C = TypeVar("C", bound=Loaded)


class PowerOfTwo:
    """Takes the less loaded of two random ones (Mitzenmacher 2001): O(1), and no herd on a stale minimum."""

    __slots__ = ("_random",)

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def pick(self, candidates: Sequence[C]) -> C:
        """`candidates`: at least one."""
        n = len(candidates)
        if n == 1:
            return candidates[0]
        first = int(self._random() * n)
        # Steps past `first`: two plain draws would collide once in n times and compare nothing.
        second = (first + 1 + int(self._random() * (n - 1))) % n
        a, b = candidates[first], candidates[second]
        return a if a.load <= b.load else b
