"""Durable mode: one sync of the disk for all answers that wait for one."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable

from router.base.segments import Segment
from router.ledger.segments import SegmentKeeper


class Syncer:
    """A thread that syncs what was committed. Those who come while it does are the next group.

    A disk that cannot sync lets them go all the same, since serving goes on, and is told of in `trouble`.
    """

    def __init__(self, keeper: SegmentKeeper, loop: asyncio.AbstractEventLoop) -> None:
        self.trouble = ""
        self._keeper, self._loop = keeper, loop
        self._synced = keeper.sequence  # through this frame, and those who waited for it were called
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._latest: tuple[int, Segment | None] = (0, None)  # a frame, and the segment that it is in
        self._wanted = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ledger-sync", daemon=True)
        self._thread.start()

    def wait(self, sequence: int, segment: Segment | None, then: Callable[[], None]) -> None:
        """Calls `then` on the loop once all frames through `sequence` are on the disk, in the order of the calls.

        `segment`: the one that is written to. Called at once where nothing is left to do.
        """
        if sequence <= self._synced and not self._waiting:
            then()
            return
        self._waiting.append((sequence, then))
        self._latest = sequence, segment
        self._wanted.set()

    def close(self) -> None:
        """Ends the thread. Blocks. What was committed is synced where its segment is let go."""
        self._closing = True
        self._wanted.set()
        self._thread.join()

    def _done(self, sequence: int) -> None:
        self._synced = sequence
        waiting = self._waiting
        while waiting and waiting[0][0] <= sequence:
            waiting.popleft()[1]()

    # On the syncer's thread.

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                return
            sequence = self._sync()
            self._loop.call_soon_threadsafe(self._done, sequence)

    def _sync(self) -> int:
        with self._keeper.files:  # nobody closes one meanwhile; what was closed before was synced then
            sequence, latest = self._latest
            segments = [each for each, _ in self._keeper.retired]
            if latest is not None and latest not in segments and not latest.finished:
                segments.append(latest)
            try:
                for each in segments:
                    os.fdatasync(each.fd)  # on Linux, that includes the pages of a shared mapping
                self.trouble = ""
            except OSError as error:
                self.trouble = error.strerror or type(error).__name__
        return sequence
