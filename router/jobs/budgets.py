"""What budgets have left is known from the ledger after a start, and again and again: others may write into it too."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from router.base.clock import Clock
from router.jobs.loops import Surprised, every
from router.transport.channel import NO_ANSWER

LOOK_EVERY_S: Final = 30.0
RETRY_S: Final = 0.5  # until the ledger has answered once


class Budgets:
    """The job of the process that has the sources of all budgets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        spent: Callable[[float], Awaitable[Mapping[str, int]]],
        begin: Callable[[Mapping[str, int]], None],
        surprised: Surprised,
    ) -> None:
        """`spent`: by limit id, up to a moment in wall seconds; raises what a channel does. `begin`: is told of it."""
        self._loop, self._clock, self._spent, self._begin, self._surprised = loop, clock, spent, begin, surprised
        self.known = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        await self._look()
        while not self.known:
            await asyncio.sleep(RETRY_S)
            await self._look()
        await every(LOOK_EVERY_S, "budgets", self._look, self._surprised)

    async def _look(self) -> None:
        try:
            spent = await self._spent(self._clock.wall())
        except NO_ANSWER:
            return
        self._begin(spent)
        self.known = True
