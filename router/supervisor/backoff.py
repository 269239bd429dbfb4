"""How long a worker that ended is left alone before the next one takes its place."""

import random
from typing import Final

HEALTHY_S: Final = 60.0  # who lived so long was not ended by what ended the one before
FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
JITTER: Final = 0.2  # of the wait: workers that were ended by one cause do not come back as one


class Backoff:
    """One worker's. The first restart is immediate, then twice as long each time while they die young."""

    __slots__ = ("_deaths", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._deaths = 0  # in a row, of the young

    def next_s(self, lived_s: float) -> float:
        """Seconds to wait after the end of one that lived so long."""
        self._deaths = 1 if lived_s >= HEALTHY_S else self._deaths + 1
        if self._deaths == 1:
            return 0.0
        wait_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self._deaths - 2, 16))
        return wait_s * (1.0 - JITTER * self._rng.random())
