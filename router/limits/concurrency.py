"""How many requests a deployment takes at one time before they only queue inside it.

The gradient of Netflix' concurrency-limits (Gradient2Limit) over windows, as Envoy's adaptive concurrency has them: a
window's typical time to first byte against the usual one. First bytes of language models differ by an order of
magnitude with the prompt, so a time counts by its logarithm, only windows of many samples are judged, and only what is
more than twice as slow as usual looks like a queue.

What looks like one may also be longer prompts, or a usual time that was learned from the fastest. So before the limit
falls it is halved for a moment: behind a queue the time halves as well (Little's law), elsewhere it stays.
"""

from math import exp, log, sqrt
from typing import Final

from router.limits.settings import LimitSettings

WINDOW_S: Final = 1.0
WINDOW_SAMPLES: Final = 50  # their mean logarithm varies by 0.14 at a sigma of 1: log(2) is five times that
TOLERANCE: Final = 2.0  # times the usual
SUSPECT: Final = log(TOLERANCE)
SMOOTHING: Final = 0.2  # of a fall
GRADIENT_MIN: Final = 0.5
WARM_WINDOWS: Final = 10  # the first bytes that come first are the fastest ones: nothing is judged by them
BASE_WARMS: Final = 0.3  # share of the way to a window's time, for so long
BASE_FALLS: Final = 0.1  # later: an unhurried time is believed soon
BASE_RISES: Final = 0.02  # and a slower one late, lest a queue become the usual
BASE_RISES_BUSY: Final = 0.002
SQUEEZE: Final = 0.5
SQUEEZE_S: Final = 30.0  # after which a squeeze ends where long streams do not make room for it
QUEUE: Final = 0.35  # share of the fall of the limit that a time must follow, in logarithms, to be a queue's
STEADY: Final = 1.2  # times the last window's requests in flight
SAME: Final = 0.25  # two times so near to each other, in logarithms, are one
SURE_WINDOWS: Final = 60  # for so long what a squeeze found is not asked again
BACK_OFF: Final = 0.9  # is left after a drop (AIMD)
CALM_S: Final = 1.0  # drops within so long are one event


class GradientLimit:
    """One deployment's. `limit` is compared with the requests in flight, and never leaves [minimum, ceiling]."""

    __slots__ = (
        "_base",
        "_calm_at",
        "_ceiling",
        "_count",
        "_descends",
        "_ends_at",
        "_exact",
        "_log_sum",
        "_minimum",
        "_peak",
        "_peak_before",
        "_settled",
        "_squeeze_until",
        "_squeezed_from",
        "_sure",
        "_sure_windows",
        "_typical_before",
        "_windows",
        "adaptive",
        "limit",
    )

    def __init__(self, settings: LimitSettings, ceiling: int, fixed: int | None = None) -> None:
        """`ceiling`: what is never passed. `fixed`: the provider's own limit, where it has one, never passed either."""
        self._ceiling = max(1, ceiling if fixed is None else min(ceiling, fixed))
        self._minimum = min(max(1, settings.concurrency_min), self._ceiling)
        self.adaptive = settings.adaptive
        start = settings.concurrency_start if settings.adaptive and fixed is None else self._ceiling
        self._exact = 0.0
        self.limit = 0
        self._set(start)
        self._base: float | None = None  # the usual time to first byte: mean logarithm of its seconds
        self._log_sum = 0.0
        self._count = self._peak = 0
        self._ends_at = self._calm_at = 0.0
        self._squeezed_from = 0.0  # the limit before a squeeze; 0: none runs
        self._typical_before = 0.0  # and the typical time
        self._peak_before = 0  # requests in flight, at most, in the last window at that limit
        self._settled = 0  # first bytes since the limit last changed its course
        self._windows = 0  # up to WARM_WINDOWS
        self._squeeze_until = 0.0
        self._descends = False  # a squeeze has found a queue, and not its end yet
        self._sure = False  # a squeeze has confirmed the usual time
        self._sure_windows = 0  # for which that needs no more proof

    def observe(self, first_byte_s: float, in_flight: int, now: float) -> None:
        """A first byte came after `first_byte_s`, with `in_flight` requests at the deployment, itself included."""
        self._log_sum += log(first_byte_s + 1e-6)
        self._count += 1
        if in_flight > self._peak:
            self._peak = in_flight
        if now >= self._ends_at and self._count >= WINDOW_SAMPLES:
            self._close_window(now)

    def dropped(self, in_flight: int, now: float, *, too_many: bool = False) -> None:
        """A timeout or an overload: the limit falls, where so much was in flight that this may be why.

        `too_many`: the provider says that it was, so that the limit falls below what was in flight.
        """
        if not self.adaptive or now < self._calm_at or (2 * in_flight < self.limit and not too_many):
            return
        self._calm_at = now + CALM_S
        self._squeezed_from = 0.0
        self._descends = False
        self._settled = 0
        self._set((min(self._exact, in_flight) if too_many else self._exact) * BACK_OFF)
        self._open_window(now)

    @property
    def usual_s(self) -> float | None:
        """The typical time to first byte without a queue, as far as it is known."""
        return exp(self._base) if self._base is not None else None

    def _close_window(self, now: float) -> None:
        typical, peak, count = self._log_sum / self._count, self._peak, self._count
        self._open_window(now)
        base = typical if self._base is None else self._base
        if self._squeezed_from:
            self._squeezed(base, typical, peak, count, now)
            return
        busy = 2 * peak > self.limit
        if self._windows < WARM_WINDOWS:
            self._windows += 1
            share = BASE_WARMS
        elif typical < base:
            share = BASE_FALLS
        else:
            share = BASE_RISES_BUSY if busy else BASE_RISES
        self._base = base = base + share * (typical - base)
        # Far below a limit that nobody has measured yet, only what looks like a queue is looked into.
        if self.adaptive and (busy or self._descends or (self._windows >= WARM_WINDOWS and typical > base + SUSPECT)):
            self._adapt(base, typical, peak, count, now)

    def _adapt(self, base: float, typical: float, peak: int, count: int, now: float) -> None:
        gradient = max(GRADIENT_MIN, TOLERANCE * exp(base - typical))
        # Only while the load is steady: times that still rise would seem to take no notice of a squeeze.
        self._settled = self._settled + count if peak <= STEADY * self._peak_before else 0
        self._peak_before = peak
        self._sure_windows -= 1
        if not self._descends and (gradient >= 1.0 or self._windows < WARM_WINDOWS):
            self._set(self._exact + sqrt(self._exact))
        elif self._sure_windows > 0:
            self._set(self._exact * (1.0 - SMOOTHING * (1.0 - gradient)))
        elif self._settled >= 2 * min(self.limit, peak):  # all who are in flight came under this limit
            self._squeezed_from, self._typical_before = self._exact, typical
            self._squeeze_until = now + SQUEEZE_S
            self._settled = 0
            self._set(min(self._exact, peak) * SQUEEZE)

    def _squeezed(self, base: float, typical: float, peak: int, count: int, now: float) -> None:
        """A smaller limit has been in force for a while: did the time follow?"""
        if peak > self.limit:  # too many are still there from before
            if now >= self._squeeze_until:  # nothing is proved, so nothing falls: overload would drop requests as well
                self._set(self._squeezed_from)
                self._squeezed_from, self._settled = 0.0, 0
            return
        self._settled += count
        if self._settled < self.limit + count:
            return  # these came before
        queue = QUEUE * log(self._peak_before / self._exact)
        found = queue > 0.0 and typical < self._typical_before - queue
        sure = not found or (self._sure and abs(typical - base) < SAME)
        self._base = min(base, typical) if found else typical
        if sure:
            self._set(self._squeezed_from)
            self._sure_windows = SURE_WINDOWS
        self._sure, self._descends = sure, not sure  # else the end of the queue is further down
        self._squeezed_from, self._settled = 0.0, 0

    def _open_window(self, now: float) -> None:
        self._log_sum = 0.0
        self._count = self._peak = 0
        self._ends_at = now + WINDOW_S

    def _set(self, limit: float) -> None:
        self._exact = min(max(limit, float(self._minimum)), float(self._ceiling))
        self.limit = int(self._exact)
