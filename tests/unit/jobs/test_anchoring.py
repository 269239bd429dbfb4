"""The job that anchors: it goes on after failures, and tells of them once."""

from __future__ import annotations

import asyncio
import errno
import os
import threading

from router.jobs.anchoring import Anchoring


class Sink:
    """Fails for the anchors whose numbers are in `failing`, from 1."""

    def __init__(self, failing: range, wanted: int) -> None:
        self.failing, self.wanted, self.count = failing, wanted, 0
        self.threads: set[int] = set()
        self.done = threading.Event()

    def anchor(self) -> None:
        self.count += 1
        self.threads.add(threading.get_ident())
        if self.count == self.wanted:
            self.done.set()
        if self.count in self.failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_failure_is_told_once_and_so_is_its_end() -> None:
    sink = Sink(range(2, 5), wanted=8)
    told: list[tuple[str, str]] = []
    job = Anchoring(sink, 0.001, lambda event, reason: told.append((event, reason)))
    job.start()
    assert await asyncio.to_thread(sink.done.wait, 10)
    await job.stop()

    assert told == [("anchor_failed", "ENOSPC"), ("anchor_restored", "")]
    assert job.failures == 3
    assert threading.get_ident() not in sink.threads  # never on the loop


async def test_it_ends_when_it_is_stopped() -> None:
    sink = Sink(range(0), wanted=1)
    job = Anchoring(sink, 3600.0, lambda event, reason: None)
    await job.stop()
    job.start()
    await asyncio.sleep(0)
    await job.stop()
    assert sink.count == 0
