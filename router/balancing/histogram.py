"""Quantiles of recent times, in constant space."""

from math import exp, log
from typing import Final

_SMALLEST_S: Final = 0.001
_STEPS: Final = 4 / log(2)  # buckets a doubling: each is 19 % wide, so a quantile is within 9 %
_BUCKETS: Final = 84  # the last begins at 1,700 s
_HALVED_EVERY_S: Final = 30.0
_ASKED_ANEW: Final = 32  # observations after which a quantile is computed again
_FEWEST: Final = 10.0  # observations below which nothing is known


class Histogram:
    """Counts in buckets of equal ratio, halved every half minute, so that what was long ago weighs little."""

    __slots__ = ("_counts", "_halved_at", "_known", "_unasked")

    def __init__(self) -> None:
        self._counts = [0.0] * _BUCKETS
        self._halved_at = 0.0
        self._known: dict[float, float] = {}
        self._unasked = 0

    def observe(self, seconds: float, now: float) -> None:
        bucket = int(log(seconds / _SMALLEST_S) * _STEPS) if seconds > _SMALLEST_S else 0
        self._counts[bucket if bucket < _BUCKETS else _BUCKETS - 1] += 1.0
        self._unasked += 1
        if now >= self._halved_at + _HALVED_EVERY_S:
            self._halve(now)

    def quantile(self, q: float) -> float:
        """Seconds that a share `q` of the observations took at most; 0.0: there are too few."""
        if self._unasked >= _ASKED_ANEW:
            self._known.clear()
            self._unasked = 0
        known = self._known.get(q, 0.0)
        if not known:
            known = self._known[q] = self._computed(q)
        return known

    def _computed(self, q: float) -> float:
        total = sum(self._counts)
        if total < _FEWEST:
            return 0.0
        wanted, passed = q * total, 0.0
        for bucket, count in enumerate(self._counts):
            if passed + count >= wanted and count:
                return _SMALLEST_S * exp((bucket + (wanted - passed) / count) / _STEPS)
            passed += count
        return _SMALLEST_S * exp(_BUCKETS / _STEPS)

    def _halve(self, now: float) -> None:
        """Once for each half minute that has passed; the first observation only sets the clock."""
        if self._halved_at:
            factor = 0.5 ** int((now - self._halved_at) / _HALVED_EVERY_S)
            self._counts = [count * factor for count in self._counts]
            self._known.clear()
        self._halved_at = now
