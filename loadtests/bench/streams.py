"""Streams that pause between events, which wrk cannot hold: paced ones back to back, and idle ones that stay open."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, cast

from loadtests.bench.bodies import raw_request
from loadtests.bench.processes import BenchError
from loadtests.bench.procfs import cpu_s, pss_bytes, serving
from loadtests.bench.subjects import Target

CONNECTS_AT_ONCE: Final = 50


class Closable(Protocol):
    def close(self) -> None: ...


ClientT = TypeVar("ClientT", bound=asyncio.Protocol)


class EventCounter:
    """Counts SSE events in chunked bytes, also those whose blank line is split between two reads."""

    def __init__(self) -> None:
        self.events = 0
        self._ends_in_newline = False

    def feed(self, data: bytes) -> None:
        self.events += data.count(b"\n\n")
        if self._ends_in_newline and data.startswith(b"\n"):
            self.events += 1
        self._ends_in_newline = data.endswith(b"\n") and not data.endswith(b"\n\n")


class StreamClient(asyncio.Protocol):
    """Asks for a stream, counts its events, and asks again when it has ended."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._counter = EventCounter()
        self._transport: asyncio.WriteTransport | None = None
        self._fresh = True
        self.first_event = asyncio.get_running_loop().create_future()
        self.error = ""
        self.closing = False

    @property
    def events(self) -> int:
        return self._counter.events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are no subclasses of it

    def ask(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._fresh = True
        self._transport.write(self._request)

    def close(self) -> None:
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._fresh:
            self._fresh = False
            if not data.startswith(b"HTTP/1.1 200 "):
                self.error = self.error or data[:300].decode(errors="replace")
        self._counter.feed(data)
        if self._counter.events and not self.first_event.done():
            self.first_event.set_result(None)
        if data.endswith(b"0\r\n\r\n"):
            self.ask()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.closing:
            self.error = self.error or "the connection was closed"
        if not self.first_event.done():
            self.first_event.set_result(None)


@dataclass(frozen=True, slots=True)
class Paced:
    """Events that arrived in the window, and the CPU that the target took for them."""

    events: int
    seconds: float
    cpu_s: float


async def paced(target: Target, body: bytes, streams: int, seconds: float, spread_s: float) -> Paced:
    """Holds `streams` streams open and counts for `seconds`, once all of them run.

    They start at random moments within `spread_s`, so that their events do not come in step.
    """
    loop = asyncio.get_running_loop()
    clients = await _connect(target, body, streams)
    try:
        starts = random.Random(streams)
        for client in clients:
            loop.call_later(starts.random() * spread_s, client.ask)
        await first_events(clients, spread_s + 30)
        events, cpu, started = sum(c.events for c in clients), cpu_s(target.pid), loop.time()
        await asyncio.sleep(seconds)
        events, cpu, ended = sum(c.events for c in clients) - events, cpu_s(target.pid) - cpu, loop.time()
        raise_errors(target, clients)
        return Paced(events, ended - started, cpu)
    finally:
        await close_all(clients)


async def idle_memory(target: Target, body: bytes, streams: int, settle_s: float) -> float:
    """Bytes of the target's process tree for each open stream that has had its first event and waits."""
    before = pss_bytes(serving(target.pid))
    clients = await _connect(target, body, streams)
    try:
        for client in clients:
            client.ask()
        await first_events(clients, 60)
        await asyncio.sleep(settle_s)
        with_streams = pss_bytes(serving(target.pid))
        raise_errors(target, clients)
        return (with_streams - before) / streams
    finally:
        await close_all(clients)


async def _connect(target: Target, body: bytes, count: int) -> list[StreamClient]:
    request = raw_request(target.path, body)
    return await connected(target, lambda: StreamClient(request), count)


async def connected(target: Target, client: Callable[[], ClientT], count: int) -> list[ClientT]:
    """So many clients, connected a few at a time: a listening queue has an end."""
    loop = asyncio.get_running_loop()
    clients: list[ClientT] = []
    while len(clients) < count:
        pairs = [
            loop.create_connection(client, "127.0.0.1", target.port)
            for _ in range(min(CONNECTS_AT_ONCE, count - len(clients)))
        ]
        clients += [made for _, made in await asyncio.wait_for(asyncio.gather(*pairs), 20)]
    return clients


async def first_events(clients: list[StreamClient], patience_s: float) -> None:
    _, waiting = await asyncio.wait([client.first_event for client in clients], timeout=patience_s)
    if waiting:
        raise BenchError(f"{len(waiting)} of {len(clients)} streams had no event within {patience_s:g} s")


def raise_errors(target: Target, clients: list[StreamClient]) -> None:
    errors = [client.error for client in clients if client.error]
    if errors:
        raise BenchError(f"{target.name}: {len(errors)} of {len(clients)} streams failed: {errors[0]}")


async def close_all(clients: Sequence[Closable]) -> None:
    for client in clients:
        client.close()
    await asyncio.sleep(0.2)  # the proxy sees them go before the next measurement begins
