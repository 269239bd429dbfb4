"""Streams that are read frame by frame: each must come, whole, in order; when it came is what is measured."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from loadtests.bench.bodies import raw_request
from loadtests.bench.processes import BenchError
from loadtests.bench.streams import close_all, connected
from loadtests.bench.subjects import Target

LATE: Final = 10.0  # a gap over so many times the pace is counted
_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Script:
    """The answer that must come: its events, and the chunks in which they come when nothing re-frames them."""

    payload: bytes
    wire: tuple[bytes, ...]  # and at its end one that nothing equals
    bounds: tuple[int, ...]  # where each event begins in the payload, and where the last one ends

    @staticmethod
    def of(events: Sequence[bytes]) -> "Script":
        wire = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
        wire[-1] += b"0\r\n\r\n"
        bounds = accumulate((len(event) for event in events), initial=0)
        return Script(b"".join(events), (*wire, b""), tuple(bounds))

    @property
    def events(self) -> int:
        return len(self.bounds) - 1


class Frames:
    """Follows answers byte by byte through whatever chunks and reads they come in. Knows no time."""

    __slots__ = ("_at", "_head", "_index", "_rest", "ended", "events", "script", "wrong")

    def __init__(self, script: Script) -> None:
        self.script = script
        self.events = 0  # over all answers
        self.wrong = ""  # the first thing that was not as it must be
        self.begin()

    def begin(self) -> None:
        """A new answer is due."""
        self._head, self._rest, self._at, self._index, self.ended = True, b"", 0, 0, False

    def feed(self, data: bytes) -> bool:
        """Takes a read; true when it completed events."""
        script, index = self.script, self._index
        # Nearly every read is just one event in its own chunk.
        if data == script.wire[index] and self._at == script.bounds[index] and not (self._rest or self._head):
            self._index = index + 1
            self._at = script.bounds[index + 1]
            self.events += 1
            if self._at == len(script.payload):
                self._end()
            return True
        before = self.events
        if not self.wrong:
            self._follow(self._rest + data)
        return self.events > before

    def _follow(self, data: bytes) -> None:
        if self._head:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 200 "):
                self.wrong = data[:300].decode(errors="replace")
                return
            self._head, data = False, data[end + 4 :]
        while not self.wrong and not self.ended and data:
            size, line_end = _chunk_size(data)
            stop = line_end + size + 2
            if line_end < 0 or len(data) < stop:
                break
            self._chunk(data[line_end : stop - 2])
            data = data[stop:]
        self._rest = b"" if self.ended else data
        if self.ended and data and not self.wrong:
            self.wrong = f"bytes behind the end of an answer: {data[:100]!r}"

    def _chunk(self, payload: bytes) -> None:
        script = self.script
        if not payload:
            self._end()
            return
        if script.payload[self._at : self._at + len(payload)] != payload:
            self.wrong = f"behind byte {self._at} came {payload[:100]!r}"
            return
        self._at += len(payload)
        while self._index < script.events and script.bounds[self._index + 1] <= self._at:
            self._index += 1
            self.events += 1

    def _end(self) -> None:
        self.ended = True
        if self._at != len(self.script.payload):
            self.wrong = f"an answer ended after {self._at} of {len(self.script.payload)} bytes"


def _chunk_size(data: bytes) -> tuple[int, int]:
    """(size, where the chunk's data begin); the latter is -1 when the size has not come whole."""
    end = data.find(b"\r\n")
    return (int(data[:end].split(b";")[0], 16), end + 2) if end >= 0 else (0, -1)


class FrameClient(asyncio.Protocol):
    """Asks for a stream, times its frames, and asks again when it has ended."""

    def __init__(self, request: bytes, script: Script, seen: "Seen") -> None:
        self.frames = Frames(script)
        self.error = ""
        self.closing = False
        self.first_event = asyncio.get_running_loop().create_future()
        self._request, self._seen = request, seen
        self._asked_at = self._last_at = 0.0
        self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]  # uvloop's are no subclasses

    def ask(self) -> None:
        if not self._transport.is_closing():
            self.frames.begin()
            self._waits = True
            self._asked_at = time.monotonic()
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        frames = self.frames
        if not frames.feed(data):
            if frames.wrong:
                self._fail(frames.wrong)
            return
        now = time.monotonic()
        seen = self._seen
        if self._waits:
            self._waits = False
            seen.first_s.append(now - self._asked_at)
            if not self.first_event.done():
                self.first_event.set_result(None)
        else:
            seen.gaps_s.append(now - self._last_at)
        self._last_at = now
        if frames.ended:
            self.ask()

    def connection_lost(self, _: Exception | None) -> None:
        self._fail("the connection was closed")

    def close(self) -> None:
        self.closing = True
        self._transport.abort()

    def _fail(self, why: str) -> None:
        if not self.closing:
            self.error = self.error or why
        if not self.first_event.done():
            self.first_event.set_result(None)


class Seen:
    """What all clients of a run have timed, in seconds, since `forget`."""

    def __init__(self) -> None:
        self.first_s: list[float] = []  # from asking to the first event
        self.gaps_s: list[float] = []  # between reads that brought events

    def forget(self) -> None:
        self.first_s.clear()
        self.gaps_s.clear()


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What became of the frames that were due in the window. Times are sorted."""

    events: int
    broken: int  # streams with a frame that was missing, changed or out of order, or that ended early
    error: str  # of the first of them
    first_s: Sequence[float]
    gaps_s: Sequence[float]

    def late(self, pace_s: float) -> int:
        return sum(gap > LATE * pace_s for gap in self.gaps_s)


class Crowd:
    """Open streams, from `start` until `close`."""

    def __init__(self, target: Target, body: bytes, script: Script) -> None:
        self._target, self._script = target, script
        self._request = raw_request(target.path, body)
        self._seen = Seen()
        self._clients: list[FrameClient] = []

    async def start(self, streams: int, spread_s: float) -> None:
        """Opens them at random moments within `spread_s`, so that they do not come in step; returns when all run."""
        loop = asyncio.get_running_loop()
        self._clients = await connected(
            self._target, lambda: FrameClient(self._request, self._script, self._seen), streams
        )
        starts = random.Random(streams)
        for client in self._clients:
            loop.call_later(starts.random() * spread_s, client.ask)
        firsts = [client.first_event for client in self._clients]
        _, waiting = await asyncio.wait(firsts, timeout=spread_s + _PATIENCE_S)
        if waiting:
            raise BenchError(f"{self._target.name}: {len(waiting)} of {streams} streams had no event")

    async def watch(self, seconds: float) -> Fidelity:
        self._seen.forget()
        events = sum(client.frames.events for client in self._clients)
        await asyncio.sleep(seconds)
        events = sum(client.frames.events for client in self._clients) - events
        errors = [client.error for client in self._clients if client.error]
        seen = self._seen
        return Fidelity(events, len(errors), errors[0] if errors else "", sorted(seen.first_s), sorted(seen.gaps_s))

    async def close(self) -> None:
        await close_all(self._clients)
