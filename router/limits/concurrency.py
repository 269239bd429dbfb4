"""How many requests a deployment takes at one time before they only queue inside it.

The gradient of Netflix' concurrency-limits (Gradient2Limit) over windows, as Envoy's adaptive concurrency has them:
a window's typical time to first byte against the one of an unhurried deployment. First bytes of language models differ
by an order of magnitude with the prompt, so a time counts by its logarithm, only windows of many samples are judged,
and only what is more than twice as slow as usual counts as queueing.
"""

from math import exp, log, sqrt
from typing import Final

from router.limits.settings import LimitSettings

WINDOW_S: Final = 1.0
WINDOW_SAMPLES: Final = 30  # their mean logarithm varies by 0.18 at a sigma of 1: log(2) is four times that
TOLERANCE: Final = 2.0  # times the usual
SMOOTHING: Final = 0.2
BASE_FALLS: Final = 0.1  # share of the way, a window: an unhurried time is believed soon
BASE_RISES: Final = 0.02  # and a slower one late, lest a queue become the usual
BASE_RISES_BUSY: Final = 0.002  # while the limit is reached
SQUEEZE_EVERY: Final = 60  # windows at the limit after which the usual time is measured anew, at half the limit
SQUEEZE_SHARE: Final = 0.5
BACK_OFF: Final = 0.9  # of the limit is left after a drop (AIMD)
CALM_S: Final = 1.0  # drops within so long are one event


class GradientLimit:
    """One deployment's. `limit` is compared with the requests in flight, and never leaves [minimum, ceiling]."""

    __slots__ = (
        "_base",
        "_busy_windows",
        "_calm_at",
        "_ceiling",
        "_count",
        "_ends_at",
        "_exact",
        "_log_sum",
        "_minimum",
        "_peak",
        "_squeezed_from",
        "adaptive",
        "limit",
    )

    def __init__(self, settings: LimitSettings, ceiling: int, fixed: int | None = None) -> None:
        """`ceiling`: what is never passed. `fixed`: the provider's own limit, where it has one, never passed either."""
        self._ceiling = max(1, ceiling if fixed is None else min(ceiling, fixed))
        self._minimum = min(settings.concurrency_min, self._ceiling)
        self.adaptive = settings.adaptive
        start = settings.concurrency_start if settings.adaptive and fixed is None else self._ceiling
        self._exact = float(min(max(start, self._minimum), self._ceiling))
        self.limit = int(self._exact)
        self._base: float | None = None  # mean logarithm of an unhurried first byte's seconds
        self._log_sum = 0.0
        self._count = self._peak = self._busy_windows = 0
        self._ends_at = 0.0
        self._calm_at = 0.0
        self._squeezed_from = 0.0  # the limit before a squeeze; 0: none runs

    def observe(self, first_byte_s: float, in_flight: int, now: float) -> None:
        """A first byte came after `first_byte_s`, with `in_flight` requests at the deployment, itself included."""
        self._log_sum += log(first_byte_s + 1e-6)
        self._count += 1
        if in_flight > self._peak:
            self._peak = in_flight
        if now >= self._ends_at and self._count >= WINDOW_SAMPLES:
            self._close_window(now)

    def dropped(self, in_flight: int, now: float) -> None:
        """A timeout, or an answer that says "too many": the limit falls below what was in flight."""
        if not self.adaptive or now < self._calm_at:
            return
        self._calm_at = now + CALM_S
        self._squeezed_from = 0.0
        self._set(min(self._exact, in_flight) * BACK_OFF)
        self._open_window(now)

    @property
    def usual_s(self) -> float | None:
        """The first-byte time of an unhurried deployment, as far as it is known."""
        return exp(self._base) if self._base is not None else None

    def _close_window(self, now: float) -> None:
        typical, peak = self._log_sum / self._count, self._peak
        self._open_window(now)
        if self._squeezed_from:
            self._end_squeeze(typical, peak)
            return
        base = self._base
        if base is None:
            self._base = typical
            return
        busy = 2 * peak > self.limit
        if typical < base:
            self._base = base + BASE_FALLS * (typical - base)
        else:
            self._base = base + (BASE_RISES_BUSY if busy else BASE_RISES) * (typical - base)
        if not self.adaptive or not busy:
            self._busy_windows = 0
            return
        gradient = min(1.0, max(0.5, TOLERANCE * exp(self._base - typical)))
        self._set(self._exact + SMOOTHING * (self._exact * gradient + sqrt(self._exact) - self._exact))
        self._busy_windows = self._busy_windows + 1 if peak >= 0.9 * self.limit else 0
        if self._busy_windows >= SQUEEZE_EVERY:
            self._busy_windows = 0
            self._squeezed_from = self._exact
            self._set(self._exact * SQUEEZE_SHARE)

    def _end_squeeze(self, typical: float, peak: int) -> None:
        """Takes the time at half the limit for the usual one; a window that still drains says nothing yet."""
        if peak > self.limit:
            return
        if self._base is None or typical < self._base:
            self._base = typical
        self._set(self._squeezed_from)
        self._squeezed_from = 0.0

    def _open_window(self, now: float) -> None:
        self._log_sum = 0.0
        self._count = self._peak = 0
        self._ends_at = now + WINDOW_S

    def _set(self, limit: float) -> None:
        self._exact = min(max(limit, float(self._minimum)), float(self._ceiling))
        self.limit = int(self._exact)
