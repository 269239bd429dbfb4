"""Money for a day or a month, in nano-dollars. When a period begins is for others to say: this has no calendar."""

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Final

from router.limits.source import WAIT_MIN_S

_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Period:
    """A day or a month, UTC."""

    number: int  # grows by one from each to the next
    left_s: float  # until it ends


def day(wall_s: float) -> Period:
    """The day of a moment, given as Unix seconds."""
    number, gone_s = divmod(wall_s, _DAY_S)
    return Period(int(number), _DAY_S - gone_s)


def month(wall_s: float) -> Period:
    """The month of a moment, given as Unix seconds."""
    today = day(wall_s)
    date = datetime.fromtimestamp(wall_s, UTC)
    days = calendar.monthrange(date.year, date.month)[1]
    return Period(date.year * 12 + date.month - 1, (days - date.day) * _DAY_S + today.left_s)


class Purse:
    """What is taken is spent until the period is over; nothing comes back with time alone."""

    __slots__ = ("_period", "_until", "limit", "spent")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.spent = 0.0
        self._period = -1
        self._until = inf

    def begin(self, period: int, spent: float, until: float) -> None:
        """A new period begins with `spent`, and lasts until that monotonic moment.

        A clock that steps back, or tells of the same period once more, opens nothing: then `spent` is what is known
        from elsewhere, and what is counted here rises to it.
        """
        if period > self._period:
            self._period, self.spent, self._until = period, spent, until
        elif period == self._period:
            self.spent, self._until = max(self.spent, spent), until

    def take(self, units: float, now: float) -> float:
        spent = self.spent + units
        if spent <= self.limit:
            self.spent = spent
            return 0.0
        return inf if units > self.limit else self.reset_s(now)

    def draw(self, units: float, now: float) -> float:
        drawn = min(units, max(0.0, self.left(now)))
        self.spent += drawn
        return drawn

    def put(self, units: float, now: float) -> None:  # noqa: ARG002 - as for every source
        if units > self.spent:  # from the period before
            units = self.spent
        self.spent -= units

    def lend(self, outstanding: float, now: float) -> None:
        """Money that lies with others is spent until it comes back."""

    def forfeit(self, units: float, now: float) -> None:
        """Comes back, or with each crash a part of the period's money would be gone that nobody spent."""
        self.put(units, now)

    def left(self, now: float) -> float:  # noqa: ARG002
        return self.limit - self.spent

    def reset_s(self, now: float) -> float:
        return max(WAIT_MIN_S, self._until - now)
