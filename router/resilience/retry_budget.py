"""How many second sends the live traffic allows.

Each request deposits a share of a retry. What one window's requests have deposited is there at once, so that a burst
(a region dies, and all that was in flight there fails at the same instant) is retried in full; what a window's spending
has taken is missing for as long as the window, so that an outage is not multiplied (Finagle's RetryBudget and Envoy's
retry budget have the same aim; neither bounds a whole window exactly).

The law, at every spend: the spends of the last `budget_window_s`, this one included, are at most the greater of
`budget_share` × the requests of the last `budget_window_s` and `budget_floor_per_s` × `budget_window_s`.
"""

from typing import Final

from router.resilience.settings import RetrySettings

_SLOTS: Final = 10  # of a window; the law is exact at any number, more of them waste less of the share


class RetryBudget:
    """Counts in slots of a tenth of the window.

    The slot that runs is counted with the nine before it for requests, and with the ten before it for spends: less than
    a window of the one, at least a window of the other, so rounding can only make the budget smaller.
    """

    __slots__ = (
        "_floor",
        "_requests",
        "_requests_before",
        "_share",
        "_slot_ends",
        "_slot_s",
        "_spent",
        "_spent_before",
    )

    def __init__(self, settings: RetrySettings, now: float) -> None:
        self._share = settings.budget_share
        self._floor = settings.budget_floor_per_s * settings.budget_window_s
        self._slot_s = settings.budget_window_s / _SLOTS
        self._slot_ends = now + self._slot_s
        self._requests = 0  # of the slot that runs
        self._spent = 0
        self._requests_before = [0] * (_SLOTS - 1)  # newest last
        self._spent_before = [0] * _SLOTS

    def request(self, now: float) -> None:
        """Counts a request of a client: its deposit. `now`: monotonic seconds."""
        if now >= self._slot_ends:
            self._roll(now)
        self._requests += 1

    def spend(self, now: float) -> bool:
        """Takes one retry or hedge. False: there is none left, and nothing was taken."""
        if self.left(now) < 1.0:
            return False
        self._spent += 1
        return True

    def left(self, now: float) -> float:
        """Retries and hedges that may be sent now."""
        if now >= self._slot_ends:
            self._roll(now)
        deposited = self._share * (self._requests + sum(self._requests_before))
        return max(0.0, max(deposited, self._floor) - self._spent - sum(self._spent_before))

    def _roll(self, now: float) -> None:
        """Ends the slot that ran, and those that nothing happened in."""
        slots = int((now - self._slot_ends) / self._slot_s) + 1
        idle = [0] * min(slots - 1, _SLOTS)
        self._requests_before = [*self._requests_before, self._requests, *idle][1 - _SLOTS :]
        self._spent_before = [*self._spent_before, self._spent, *idle][-_SLOTS:]
        self._requests = self._spent = 0
        self._slot_ends += slots * self._slot_s
