"""SIGHUP: a rotated log is let go, and the configuration is read anew."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from router.admin.control import ReloadResult


class Hangup:
    """What the signal calls. Signals that come while a reload is on its way are one more, however many they are."""

    def __init__(self, reopen_logs: Callable[[], None], reload: Callable[[], Awaitable[ReloadResult]]) -> None:
        self._reopen_logs, self._reload = reopen_logs, reload
        self._again = False
        self._task: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        self._reopen_logs()
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._reload_and_tell())

    async def _reload_and_tell(self) -> None:
        """A signal has no answer, so a refusal goes to standard error, as it does at the start."""
        while self._again:
            self._again = False
            result = await self._reload()
            if not result.ok:
                lines = [*map(str, result.faults), f"reload refused, configuration {result.version} stays in force"]
                sys.stderr.write("\n".join(lines) + "\n")
