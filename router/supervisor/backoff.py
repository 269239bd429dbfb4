"""How long a worker that ended is left alone before the next one takes its place."""

import random
from math import ceil
from typing import Final

HEALTHY_S: Final = 60.0  # who lived so long was not ended by what ended the one before
FORGIVEN_S: Final = 5.0  # a life that is so long makes good one death
FREE: Final = 3  # deaths that nobody waits for: what kills now and then, from outside, is not in the workers
FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
JITTER: Final = 0.2  # of the wait: workers that were ended by one cause do not come back as one


class Backoff:
    """One worker's. The first restarts are immediate, then twice as long each time while they die young."""

    __slots__ = ("_deaths", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._deaths = 0.0  # less what lives since have made good

    def next_s(self, lived_s: float) -> float:
        """Seconds to wait after the end of one that lived so long."""
        made_good = self._deaths if lived_s >= HEALTHY_S else lived_s / FORGIVEN_S
        self._deaths = max(0.0, self._deaths - made_good) + 1.0
        if self._deaths <= FREE:
            return 0.0
        wait_s = min(LONGEST_S, FIRST_S * 2.0 ** min(ceil(self._deaths) - FREE - 1, 16))
        return wait_s * (1.0 - JITTER * self._rng.random())
