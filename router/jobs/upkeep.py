"""What a running process does beside serving: it closes idle connections and keeps names resolved."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from router.proxy.fleet import Fleet
from router.transport.names import Names

SWEEP_EVERY_S: Final = 1.0
REFRESH_NAMES_EVERY_S: Final = 30.0


class Upkeep:
    """The jobs of one process, each a task that is held and ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fleet: Fleet, names: Names) -> None:
        self._loop, self._fleet, self._names = loop, fleet, names
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            self._loop.create_task(_every(SWEEP_EVERY_S, self._sweep)),
            self._loop.create_task(_every(REFRESH_NAMES_EVERY_S, self._names.refresh)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        self._fleet.sweep(self._loop.time())


async def _every(seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await job()
