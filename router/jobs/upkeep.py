"""What a running process does beside serving: closes idle connections, keeps names resolved, watches its memory."""

import asyncio
from collections.abc import Callable
from typing import Final

from router.jobs.loops import Surprised, every
from router.proxy.fleet import Fleet
from router.transport.names import Names

SWEEP_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 0.25
REFRESH_NAMES_EVERY_S: Final = 30.0


class Upkeep:
    """The jobs of one process, each a task that is held and ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fleet: Fleet,
        names: Names,
        memory: Callable[[], None],
        surprised: Surprised,
    ) -> None:
        """`memory`: looks after it."""
        self._loop, self._fleet, self._names, self._memory, self._surprised = loop, fleet, names, memory, surprised
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            self._loop.create_task(every(SWEEP_EVERY_S, "idle connections", self._sweep, self._surprised)),
            self._loop.create_task(every(LOOK_EVERY_S, "memory", self._memory, self._surprised)),
            self._loop.create_task(every(REFRESH_NAMES_EVERY_S, "names", self._names.refresh, self._surprised)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _sweep(self) -> None:
        self._fleet.sweep(self._loop.time())
