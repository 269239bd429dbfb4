"""A number of places. What is taken comes back, when a request ends."""

from typing import Final

AGAIN_S: Final = 1.0
"""When a place will be free nobody knows: in a second it is worth asking again."""


class Slots:
    """`count` may be lowered while places are taken: then none is free until enough have come back."""

    __slots__ = ("_taken", "count")

    def __init__(self, count: float) -> None:
        self.count = count
        self._taken = 0.0

    def take(self, units: float, now: float) -> float:  # noqa: ARG002 - as for every source
        taken = self._taken + units
        if taken > self.count:
            return AGAIN_S
        self._taken = taken
        return 0.0

    def draw(self, units: float, now: float) -> float:
        drawn = min(units, max(0.0, self.left(now)))
        self._taken += drawn
        return drawn

    def put(self, units: float, now: float) -> None:  # noqa: ARG002
        if units > self._taken:
            units = self._taken
        self._taken -= units

    def lend(self, outstanding: float, now: float) -> None:  # noqa: ARG002
        """What others have is what is taken, whether they use it or not: nothing else takes from what is lent."""
        self._taken = outstanding

    def forfeit(self, units: float, now: float) -> None:
        """The places are free already: nobody has them any more."""

    def left(self, now: float) -> float:  # noqa: ARG002
        return self.count - self._taken

    def reset_s(self, now: float) -> float:  # noqa: ARG002
        return AGAIN_S if self._taken else 0.0
