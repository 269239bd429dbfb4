"""A rate with a burst: the generic cell rate algorithm, as a level and the moment at which it was true.

ITU-T I.371 (Annex A) has two forms that admit the same: a theoretical arrival time, and this one, a leaky bucket. Here
the difference of two moments meets a small number, so that rounding does not grow with the age of the clock.
"""

from math import inf
from typing import Final

from router.limits.source import SLACK, WAIT_MIN_S

_MINUTE_S: Final = 60.0


class Bucket:
    """In any window of T seconds at most `burst + rate_per_s * T` units are taken, less what was given back.

    What is larger than the burst may pass once the bucket is full, and leaves a debt which time pays: then one such
    request comes on top. More than `largest`, or a minute's units, never passes.
    """

    __slots__ = ("_at", "_left", "_lent", "burst", "largest", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, largest: float | None = None) -> None:
        self.rate_per_s, self.burst = rate_per_s, burst
        self.largest = max(burst, rate_per_s * _MINUTE_S) if largest is None else largest
        self._left = burst
        self._lent = 0.0
        self._at = 0.0

    def take(self, units: float, now: float) -> float:
        left = self._left
        if now > self._at:
            left += (now - self._at) * self.rate_per_s
            if left > self.burst - self._lent:
                left = self.burst - self._lent
            self._at = now
        if left >= units:
            self._left = left - units
            return 0.0
        self._left = left
        return self._take_scarce(units, left)

    def draw(self, units: float, now: float) -> float:
        self._fill(now)
        drawn = min(units, max(0.0, self._left))
        self._left -= drawn
        return drawn

    def put(self, units: float, now: float) -> None:
        left, full = self._left, self.burst - self._lent
        if now > self._at:
            left += (now - self._at) * self.rate_per_s
            if left > full:  # before a debt is taken off
                left = full
            self._at = now
        left += units
        if left > full:
            left = full
        self._left = left

    def lend(self, outstanding: float, now: float) -> None:
        self._fill(now)
        self._lent = outstanding
        self._left = min(self._left, self.burst - outstanding)

    def forfeit(self, units: float, now: float) -> None:
        """Lost: time brings it back, and what was spent must not be spent twice."""

    def left(self, now: float) -> float:
        self._fill(now)
        return self._left

    def reset_s(self, now: float) -> float:
        self._fill(now)
        return max(0.0, self.burst - self._lent - self._left) / self.rate_per_s

    def _take_scarce(self, units: float, left: float) -> float:
        """There is not enough, or not exactly, or there can never be."""
        if units > self.largest:
            return inf
        # What others hold is missing for as long as they do. To wait for more than half the burst could last for ever.
        enough = min(units, max(self.burst - self._lent, self.burst / 2))
        if left < enough - SLACK:
            return max(WAIT_MIN_S, (enough - left) / self.rate_per_s)
        self._left = left - units
        return 0.0

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._left + (now - self._at) * self.rate_per_s, self.burst - self._lent)
            self._at = now
