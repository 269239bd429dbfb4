"""Anchors the decision log every few seconds, in a thread: an anchor waits for two disks."""

import asyncio
import contextlib
import errno
from collections.abc import Callable
from typing import Protocol


class Anchored(Protocol):
    """What can be anchored. Raises OSError where it cannot."""

    def anchor(self) -> None: ...


class Anchoring:
    """Runs `anchor` every `every_s` seconds, until it is stopped.

    `tell` hears of the first failure in a row (with its reason) and of the end of them. While anchors fail, requests
    are served and recorded as before: the tail that a change would go unnoticed in grows, and `audit verify` says so.
    """

    def __init__(self, log: Anchored, every_s: float, tell: Callable[[str, str], None]) -> None:
        self.failures = 0  # since the start
        self._log, self._every_s, self._tell = log, every_s, tell
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Ends the job. The last anchor is for the log's own `close`."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await loop.run_in_executor(None, self._log.anchor)
            except OSError as error:
                self.failures += 1
                if not self._failing:
                    self._tell("anchor_failed", errno.errorcode.get(error.errno or 0, "unknown"))
                self._failing = True
            else:
                if self._failing:
                    self._tell("anchor_restored", "")
                self._failing = False
