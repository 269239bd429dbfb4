"""Limits that no process above shares: all that there is of each is here."""

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from router.base.clock import Clock
from router.jobs.loops import Surprised, every
from router.limits.source import Source
from router.limits.stock import Stock
from router.limits.terms import Terms
from router.proxy.limiting import Asked
from router.telemetry.reading import Numbers

ROLL_EVERY_S: Final = 1.0  # how late a day or a month may begin


class OwnLimits:
    """Implements `limiting.Supply` for a process alone, and for a supervisor, whose workers lease of it."""

    patience_s = 0.0

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, surprised: Surprised) -> None:
        self._loop, self._clock, self._surprised = loop, clock, surprised
        self._stock = Stock()
        self._task: asyncio.Task[None] | None = None

    def source(self, limit_id: str, terms: Terms) -> Source:
        return self._stock.source(limit_id, terms, monotonic(), self._clock.wall())

    def adapt(self, limit_id: str, terms: Terms) -> None:
        self._stock.adapt(limit_id, terms, monotonic())

    def release(self, limit_id: str) -> None:
        self._stock.release(limit_id)

    def ask(self, limit_id: str, wake: Callable[[], None]) -> Asked:
        """Nobody is above, so no source of these says that somebody must be asked."""
        raise AssertionError(limit_id, wake)

    async def fetch(self, limit_ids: object) -> None:
        """As `ask`."""
        raise AssertionError(limit_ids)

    def begin(self, spent: Mapping[str, int]) -> None:
        """What the ledger knows to be spent of budgets."""
        self._stock.seed(spent, monotonic(), self._clock.wall())

    async def start(self) -> None:
        self._task = self._loop.create_task(every(ROLL_EVERY_S, "limits", self._roll, self._surprised))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def numbers(self) -> Numbers:
        """Nothing to tell of anybody above."""
        return {}

    def _roll(self) -> None:
        self._stock.roll(monotonic(), self._clock.wall())
