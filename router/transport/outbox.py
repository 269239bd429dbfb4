"""What one turn of the event loop writes leaves at the turn's end, in one go.

A write to a socket wakes whoever reads it. On the way of one request to another a process that has just been woken has
gone to sleep again; a row of writes finds it awake, and the caches warm.
"""

import asyncio
from typing import Final

LARGE_BYTES: Final = 64 << 10
"""So much is written at once: a slow reader has to be noticed before the next read adds to it."""


class Outbox:
    """Keeps what is written to transports until the callbacks of this turn have run, or until `flush`."""

    __slots__ = ("_loop", "_queued")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queued: list[tuple[asyncio.Transport, bytes | memoryview]] = []

    def write(self, transport: asyncio.Transport, data: bytes | memoryview) -> None:
        """In order for each transport. What else is done to a transport (an end, a write past this) has to `flush`."""
        queued = self._queued
        if len(data) > LARGE_BYTES:
            self.flush()
            transport.write(data)
            return
        if not queued:
            self._loop.call_soon(self.flush)
        queued.append((transport, data))

    def flush(self) -> None:
        """Writes what is kept, but for transports that have ended meanwhile."""
        queued = self._queued
        if queued:
            self._queued = []
            for transport, data in queued:
                if not transport.is_closing():
                    transport.write(data)
