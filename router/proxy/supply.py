"""Sources of limits that no other process shares."""

from collections.abc import Callable, Mapping
from time import monotonic

from router.base.clock import Clock
from router.limits.source import Source
from router.limits.stock import Stock
from router.limits.terms import Terms
from router.proxy.limiting import Asked


class OwnSupply:
    """Of a process that shares nothing. Implements `limiting.Supply`."""

    patience_s = 0.0

    def __init__(self, clock: Clock) -> None:
        self._clock, self._stock = clock, Stock()

    def source(self, limit_id: str, terms: Terms) -> Source:
        return self._stock.source(limit_id, terms, monotonic(), self._clock.wall())

    def adapt(self, limit_id: str, terms: Terms) -> None:
        self._stock.adapt(limit_id, terms, monotonic())

    def release(self, limit_id: str) -> None:
        self._stock.release(limit_id)

    def ask(self, limit_id: str, wake: Callable[[], None]) -> Asked:
        """Nobody is above, so no source of these says that somebody must be asked."""
        raise AssertionError(limit_id, wake)

    def seed(self, spent: Mapping[str, int]) -> None:
        """What was spent of each budget before this process began."""
        self._stock.seed(spent, monotonic(), self._clock.wall())

    def roll(self) -> None:
        """To be called now and then, for days and months to begin."""
        self._stock.roll(monotonic(), self._clock.wall())
