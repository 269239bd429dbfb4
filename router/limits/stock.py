"""The sources of a process that shares its limits with nobody above it."""

from collections.abc import Mapping

from router.limits.purse import Purse, day, month
from router.limits.source import Source
from router.limits.terms import Money, Terms, adapt, source_of


class Stock:
    """One source for each limit, by its id. Times: `now` in monotonic seconds, `wall` in Unix seconds."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._purses: dict[str, tuple[Purse, Money]] = {}
        self._spent: Mapping[str, int] = {}  # as the ledger had it, and
        self._spent_at = 0.0  # when, in wall seconds

    def source(self, limit_id: str, terms: Terms, now: float, wall: float) -> Source:
        """A full one where there was none, but for money that is known to be spent."""
        source = self._sources.get(limit_id)
        if source is None:
            source = self._sources[limit_id] = source_of(terms)
            if isinstance(source, Purse) and isinstance(terms, Money):
                self._purses[limit_id] = source, terms
                self._begin(limit_id, now, wall)
        return source

    def adapt(self, limit_id: str, terms: Terms, now: float) -> None:
        """Other figures for a limit that is in use."""
        adapt(self._sources[limit_id], terms, now)
        if limit_id in self._purses and isinstance(terms, Money):
            self._purses[limit_id] = self._purses[limit_id][0], terms

    def release(self, limit_id: str) -> None:
        """There is no such limit any more."""
        del self._sources[limit_id]
        self._purses.pop(limit_id, None)

    def seed(self, spent: Mapping[str, int], now: float, wall: float) -> None:
        """What was spent of each budget in its present period, in nano-dollars: as others counted it."""
        self._spent, self._spent_at = spent, wall
        self.roll(now, wall)

    def roll(self, now: float, wall: float) -> None:
        """To be called now and then: days and months that have begun are begun here."""
        for limit_id in self._purses:
            self._begin(limit_id, now, wall)

    def _begin(self, limit_id: str, now: float, wall: float) -> None:
        purse, terms = self._purses[limit_id]
        period_of = day if terms.period == "day" else month
        period = period_of(wall)
        told = self._spent.get(limit_id, 0) if period_of(self._spent_at).number == period.number else 0
        purse.begin(period.number, told, now + period.left_s)
