"""Open loop: requests leave at a constant rate whatever the answers do, and latency counts from the moment at which
each *should* have left. A closed loop waits for a slow proxy and so leaves out the requests that would have suffered
(coordinated omission).
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from loadtests.bench.bodies import raw_request
from loadtests.bench.figures import percentile
from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import Target

CONNECTIONS: Final = 64
TICK_S: Final = 0.00025
WARM_UP_S: Final = 0.5
DRAIN_S: Final = 5.0

_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Latencies of the answers to the requests that were due in the window."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float


class Client(asyncio.Protocol):
    """One keep-alive connection: one request at a time, answers with Content-Length."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._transport: asyncio.WriteTransport | None = None
        self._due = 0.0
        self._buffer = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are no subclasses of it

    def send(self, due: float) -> None:
        assert self._transport is not None
        self._due, self._buffer, self._missing = due, b"", 0
        self._transport.write(self._load.request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._missing == 0:
            self._buffer += data
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _CONTENT_LENGTH.search(self._buffer, 0, end)
            if length is None or not self._buffer.startswith(b"HTTP/1.1 200 "):
                self._load.fail(self._buffer[:300].decode(errors="replace"))
                return
            self._missing = end + 4 + int(length[1]) - len(self._buffer)
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self._load.answered(self, self._due)

    def connection_lost(self, _: Exception | None) -> None:
        self._load.fail("the connection was closed")


class Load:
    """Sends what is due at each tick; what finds no free connection waits, and its latency runs on."""

    def __init__(self, request: bytes, rate: float) -> None:
        self.request = request
        self.free: list[Client] = []
        self.latencies_s: list[float] = []
        self.error = ""
        self.sent = 0
        self._interval_s = 1 / rate
        self._waiting: deque[float] = deque()
        self._begin = self._until = 0.0

    def begin(self, at: float, until: float) -> None:
        self._begin, self._until = at, until

    def tick(self) -> None:
        now = min(time.monotonic(), self._until)
        while (due := self._begin + self.sent * self._interval_s) <= now:
            self.sent += 1
            if self.free:
                self.free.pop().send(due)
            else:
                self._waiting.append(due)

    def answered(self, client: Client, due: float) -> None:
        if due >= self._begin + WARM_UP_S:
            self.latencies_s.append(time.monotonic() - due)
        if self._waiting:
            client.send(self._waiting.popleft())
        else:
            self.free.append(client)

    def fail(self, why: str) -> None:
        self.error = self.error or why


async def open_loop(target: Target, body: bytes, rate: float, seconds: float) -> OpenLoop:
    """Sends `rate` requests a second for `seconds`, after WARM_UP_S more that are not counted."""
    loop = asyncio.get_running_loop()
    load = Load(raw_request(target.path, body), rate)
    clients = [
        client
        for _, client in await asyncio.gather(
            *(loop.create_connection(lambda: Client(load), "127.0.0.1", target.port) for _ in range(CONNECTIONS))
        )
    ]
    load.free = list(clients)
    try:
        with _no_collections(), _ticks(load):
            begin = time.monotonic() + 0.01  # not loop.time(): uvloop counts in whole milliseconds
            load.begin(begin, begin + WARM_UP_S + seconds)
            await asyncio.sleep(0.01 + WARM_UP_S + seconds)
        await _drain(load, len(clients))
    finally:
        for client in clients:
            client.close()
    ordered = sorted(load.latencies_s)
    return OpenLoop(len(ordered), rate, percentile(ordered, 0.50) * 1e3, percentile(ordered, 0.99) * 1e3)


async def _drain(load: Load, connections: int) -> None:
    deadline = asyncio.get_running_loop().time() + DRAIN_S
    while len(load.free) < connections:
        if load.error or asyncio.get_running_loop().time() > deadline:
            raise BenchError(f"open loop: {load.error or 'answers are missing'}")
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """A pause of our own collector would look like one of the proxy's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _ticks(load: Load) -> Iterator[None]:
    """Calls `load.tick` every TICK_S by a timer of the kernel: those of event loops count in whole milliseconds."""
    loop = asyncio.get_running_loop()
    fd = _timer_fd(TICK_S)

    def tick() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 8)
        load.tick()

    loop.add_reader(fd, tick)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        os.close(fd)


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: interval and first expiry, each in seconds and nanoseconds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns"))


def _timer_fd(interval_s: float) -> int:
    """A timerfd; `os.timerfd_create` comes with Python 3.13."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
    nanoseconds = round(interval_s * 1e9)
    spec = _TimerSpec(0, nanoseconds, 0, nanoseconds)
    if fd < 0 or libc.timerfd_settime(fd, 0, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return fd
