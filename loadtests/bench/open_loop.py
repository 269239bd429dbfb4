"""Open loop: requests leave at a constant rate whatever the answers do, and latency counts from the moment at which
each *should* have left. A closed loop waits for a slow proxy and so leaves out the requests that would have suffered
(coordinated omission).

One thread on plain sockets and epoll: a request costs it 10 µs, most of them the kernel's, where an event loop with
protocol objects takes 16. A tick of TICK_S sends what is due; the ticks of event loops come in whole milliseconds.
"""

import contextlib
import ctypes
import gc
import os
import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

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
_READ_BYTES: Final = 65_536
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class TooSlowError(BenchError):
    """The rate is so far beyond what the target can do that answers are missing long after the last was due."""


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Latencies of the answers to the requests that were due in the window."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    late_p99_ms: float  # how late this program itself was, with a connection free: its own part of the latency


class Connection:
    """One keep-alive connection: one request at a time, answers with Content-Length."""

    __slots__ = ("_missing", "_parts", "due", "recv", "socket")

    def __init__(self, port: int, *, blocking: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DRAIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not blocking:
            self.socket.setblocking(False)
        self.recv = self.socket.recv
        self.due = 0.0
        self._parts = b""
        self._missing = 0

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        if self.socket.send(request) != len(request):
            raise BenchError("open loop: a request does not fit into the socket's buffer")

    def take(self) -> bool:
        """Reads what has come; true when an answer is complete. Raises BenchError when it is not a 200."""
        data = self.recv(_READ_BYTES)
        if not data:
            raise BenchError("open loop: the connection was closed")
        if self._missing:
            self._missing -= len(data)
            return not self._missing
        data = self._parts + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._parts = data
            return False
        length = _CONTENT_LENGTH.search(data, 0, end)
        if length is None or not data.startswith(b"HTTP/1.1 200 "):
            raise BenchError(f"open loop: {data[:300].decode(errors='replace')}")
        self._parts = b""
        self._missing = end + 4 + int(length[1]) - len(data)
        return not self._missing


class Schedule:
    """Sends what is due at each tick; what finds no free connection waits, and its latency runs on."""

    def __init__(self, request: bytes, rate: float, seconds: float, connections: list[Connection]) -> None:
        self.total = int((WARM_UP_S + seconds) * rate)
        self.answered = 0
        self.latencies_s: list[float] = []
        self.late_s: list[float] = []
        self._request, self._interval_s = request, 1 / rate
        self._free = list(connections)
        self._waiting: deque[float] = deque()
        self._sent = 0
        self._begin = time.monotonic() + 0.01
        self._counted_from = self._begin + WARM_UP_S
        self.ends = self._begin + WARM_UP_S + seconds

    def tick(self) -> None:
        now = time.monotonic()
        while self._sent < self.total and (due := self._begin + self._sent * self._interval_s) <= now:
            self._sent += 1
            if self._free:
                self._free.pop().send(self._request, due)
                self.late_s.append(now - due)
            else:
                self._waiting.append(due)

    def done(self, connection: Connection) -> None:
        self.answered += 1
        if connection.due >= self._counted_from:
            self.latencies_s.append(time.monotonic() - connection.due)
        if self._waiting:
            connection.send(self._request, self._waiting.popleft())
        else:
            self._free.append(connection)


def open_loop(target: Target, body: bytes, rate: float, seconds: float) -> OpenLoop:
    """Sends `rate` requests a second for `seconds`, after WARM_UP_S more that are not counted.

    Raises BenchError when a request fails, and TooSlowError when answers are missing DRAIN_S after the last was due.
    """
    connections = [Connection(target.port) for _ in range(CONNECTIONS)]
    try:
        with _no_collections():
            schedule = Schedule(raw_request(target.path, body), rate, seconds, connections)
            _run(schedule, connections)
    finally:
        for connection in connections:
            connection.socket.close()
    seen, late = sorted(schedule.latencies_s), sorted(schedule.late_s)
    p50_s, p99_s = percentile(seen, 0.50), percentile(seen, 0.99)
    return OpenLoop(len(seen), rate, p50_s * 1e3, p99_s * 1e3, percentile(late, 0.99) * 1e3 if late else 0.0)


def _run(schedule: Schedule, connections: list[Connection]) -> None:
    by_fd = {connection.socket.fileno(): connection for connection in connections}
    with select.epoll() as ready, _timer(TICK_S) as timer:
        ready.register(timer, select.EPOLLIN)
        for fd in by_fd:
            ready.register(fd, select.EPOLLIN)
        patience_ends = schedule.ends + DRAIN_S
        while schedule.answered < schedule.total:
            for fd, _ in ready.poll():
                if fd == timer:
                    os.read(timer, 8)
                    schedule.tick()
                elif (connection := by_fd[fd]).take():
                    schedule.done(connection)
            if time.monotonic() > patience_ends:
                raise TooSlowError(f"open loop: {schedule.total - schedule.answered} answers are missing")


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """A pause of our own collector would look like one of the proxy's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: interval and first expiry, each in seconds and nanoseconds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns"))


@contextlib.contextmanager
def _timer(interval_s: float) -> Iterator[int]:
    """A timerfd; `os.timerfd_create` comes with Python 3.13."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
    nanoseconds = round(interval_s * 1e9)
    spec = _TimerSpec(0, nanoseconds, 0, nanoseconds)
    if fd < 0 or libc.timerfd_settime(fd, 0, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    try:
        yield fd
    finally:
        os.close(fd)
