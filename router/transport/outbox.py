"""What one turn of the event loop writes leaves at the turn's end, in one go.

A write to a socket wakes whoever reads it. On the way of one request to another a process that has just been woken has
gone to sleep again; a row of writes finds it awake, and the caches warm.
"""

import asyncio
from typing import Final

LARGE_BYTES: Final = 16 << 10
"""So much is written at once: a slow reader has to be noticed before the next read adds to it."""


class Outbox:
    """Keeps what is written to transports until the callbacks of this turn have run, or until `flush`."""

    __slots__ = ("_loop", "_queued")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queued: dict[asyncio.Transport, list[bytes | memoryview]] = {}

    def write(self, transport: asyncio.Transport, data: bytes | memoryview) -> None:
        """In order for each transport. What else is done to a transport (an end, a write past this) has to `flush`."""
        queued = self._queued
        if len(data) > LARGE_BYTES:
            if transport in queued:
                self.flush()
            transport.write(data)
            return
        parts = queued.get(transport)
        if parts is not None:
            parts.append(data)
            return
        if not queued:
            self._loop.call_soon(self.flush)
        queued[transport] = [data]

    def flush(self) -> None:
        """Writes what is kept, but for transports that have ended meanwhile."""
        queued = self._queued
        if not queued:
            return
        self._queued = {}
        for transport, parts in queued.items():
            if transport.is_closing():
                continue
            if len(parts) == 1:
                transport.write(parts[0])
            else:
                transport.writelines(parts)
