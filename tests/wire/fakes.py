"""The two ends of the wire without sockets: transports that record, a loop that runs when told, handlers that answer.

client = Client(Echo())
client.feed(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
client.answers                # what was written to it, read strictly: [Reply(status=200, ...)]
client.handler.seen           # the requests that were handed up
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic
from typing import Any, Final

from router.base.errors import ClientGoneError, MalformedHttpError, RouterError
from router.transport.client_connection import Connection
from router.transport.inbound import Inbound
from router.transport.server import Server
from router.transport.upstream import AnswerHead
from router.transport.wheel import Wheel

_QUIET_FD: Final = os.pipe()[0]  # nothing is ever written to it: a poll finds it idle and open


class FakeLoop:
    """`call_soon` and `time`, and nothing that waits."""

    def __init__(self) -> None:
        self._ready: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def time(self) -> float:
        return monotonic()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._ready.append((callback, args))

    def set_exception_handler(self, _handler: object) -> None:
        """Whatever fails is raised here, where it can be seen."""

    def run(self) -> None:
        """Runs what is ready, and what that makes ready."""
        while self._ready:
            ready, self._ready = self._ready, []
            for callback, args in ready:
                callback(*args)


class _FakeSocket:
    def __init__(self) -> None:
        self.options: list[tuple[int, int, object]] = []

    def fileno(self) -> int:
        return _QUIET_FD

    def setsockopt(self, level: int, name: int, value: object) -> None:
        self.options.append((level, name, value))


class FakeTransport(asyncio.Transport):
    """Records what a protocol does with its connection; reports the end in the loop's next turn, as uvloop does."""

    def __init__(self, loop: FakeLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.loop, self.protocol = loop, protocol
        self.out = bytearray()
        self.closed = self.aborted = self.eof_sent = self.lost = False
        self.paused = False
        self.late = bytearray()  # what was written after the end: always a fault of the protocol
        self.sock = _FakeSocket()
        self.peer = "192.0.2.1"

    def write(self, data: Any) -> None:
        (self.late if self.closed or self.aborted or self.eof_sent else self.out).extend(data)

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered here."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self.sock, "peername": (self.peer, 50_000)}.get(name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True
        self.loop.call_soon(self.lose, None)

    def abort(self) -> None:
        self.aborted = True
        self.loop.call_soon(self.lose, None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_sent = True

    def pause_reading(self) -> None:
        assert not self.lost, "paused after its end"
        self.paused = True

    def resume_reading(self) -> None:
        assert not self.lost, "resumed after its end"
        self.paused = False

    def lose(self, error: Exception | None) -> None:
        """The connection is over, by whoever's wish."""
        if not self.lost:
            self.lost = self.closed = True
            self.protocol.connection_lost(error)


@dataclass
class Bounds:
    """The limits of a listener, small enough to be reached."""

    body_bytes_max: int = 1 << 20
    buffered_bytes_max: int = 1 << 24
    connections_max: int = 100
    connections_per_address_max: int | None = None
    head_bytes_max: int = 64 << 10
    pipelined_bytes_max: int = 64 << 10
    waiting_bytes_max: int = 64 << 20
    proxy_protocol: bool = False
    trusted_proxies: tuple[Any, ...] = ()
    tls_context: Any = None
    handshake_timeout_s: float = 10.0
    head_timeout_s: float = 30.0
    body_timeout_s: float = 60.0
    keepalive_timeout_s: float = 75.0


@dataclass
class Seen:
    """One request as it was handed up; `body` is None until it is whole."""

    method: bytes
    target: bytes
    fields: dict[bytes, bytes]
    body: bytes | None = None
    error: RouterError | None = None


def ok(inbound: Inbound, body: bytes) -> None:
    inbound.begin_answer(b"HTTP/1.1 200 OK\r\n", b"", body, monotonic())
    inbound.end()


class Handler:
    """Reads the body and answers with it; refuses as the gateway does."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.inbounds: list[Inbound] = []
        self.refusals: list[MalformedHttpError] = []

    def request_begun(self, inbound: Inbound) -> None:
        head = inbound.head
        self.seen.append(Seen(head.method, head.target, dict(head.fields)))
        self.inbounds.append(inbound)
        inbound.run(self._guarded(inbound, self.seen[-1]))

    async def _guarded(self, inbound: Inbound, seen: Seen) -> None:
        try:
            await self.serve(inbound, seen)
        except ClientGoneError as error:
            seen.error = error
            inbound.abandon()
        except RouterError as error:
            seen.error = error
            if error.close:
                inbound.keep_alive = False
            inbound.begin_answer(b"HTTP/1.1 %d X\r\n" % error.status, b"", error.code.encode(), monotonic())
            inbound.end()

    async def serve(self, inbound: Inbound, seen: Seen) -> None:
        await inbound.read_body()
        seen.body = bytes(inbound.body)
        ok(inbound, seen.body)

    def refused(self, error: MalformedHttpError) -> bytes:
        self.refusals.append(error)
        code = error.code.encode()
        return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (error.status, len(code), code)

    def crowded(self) -> bytes:
        return b"HTTP/1.1 503 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Held(Handler):
    """Reads the body, and answers only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.released = 0

    def release(self) -> None:
        """Lets the oldest request that still waits be answered."""
        self.released += 1
        self.inbounds[self.released - 1].wake()

    async def serve(self, inbound: Inbound, seen: Seen) -> None:
        await inbound.read_body()
        seen.body = bytes(inbound.body)
        number = len(self.seen)
        while self.released < number:
            await inbound.rest()
        ok(inbound, seen.body)


class Early(Handler):
    """Answers without having looked at the body."""

    async def serve(self, inbound: Inbound, seen: Seen) -> None:
        inbound.begin_answer(b"HTTP/1.1 401 X\r\n", b"", b"no", monotonic())
        inbound.end()


@dataclass
class Reply:
    """One answer as a client reads it."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes


class Client:
    """One client's connection to a listener of its own, or of another client."""

    def __init__(
        self, handler: Handler | None = None, server: Server | None = None, peer: str = "192.0.2.1", **bounds: Any
    ) -> None:
        self.handler = handler or Handler()
        if server is None:
            loop = FakeLoop()
            server = Server(loop, Wheel(loop), self.handler, Bounds(**bounds))  # type: ignore[arg-type]
        self.server = server
        self.loop: FakeLoop = server.loop  # type: ignore[assignment]
        self.connection = Connection(server)
        self.transport = FakeTransport(self.loop, self.connection)
        self.transport.peer = peer
        self.connection.connection_made(self.transport)

    def feed(self, data: bytes, *, run: bool = True) -> "Client":
        """One read. After the end of a connection nothing can arrive any more."""
        if data and not self.transport.closed and not self.transport.aborted:
            self.connection.data_received(data)
        if run:
            self.loop.run()
        return self

    def feed_pieces(self, data: bytes, cuts: list[int]) -> "Client":
        for piece in pieces(data, cuts):
            self.feed(piece)
        return self

    def hang_up(self, error: Exception | None = None) -> None:
        self.transport.lose(error)
        self.loop.run()

    def pass_time(self, seconds: float) -> None:
        """Turns the wheel to `seconds` from now, in steps of a second, as if nothing had come meanwhile."""
        start = monotonic()
        for step in range(1, int(seconds) + 1):
            self.server.wheel.advance(start + step)
        self.server.wheel.advance(start + seconds)
        self.loop.run()

    @property
    def out(self) -> bytes:
        return bytes(self.transport.out)

    @property
    def answers(self) -> list[Reply]:
        return list(replies(self.out))

    @property
    def statuses(self) -> list[int]:
        return [reply.status for reply in self.answers]

    @property
    def ended(self) -> bool:
        """Nothing more that this client sends is served."""
        return self.transport.is_closing() or self.transport.eof_sent

    def check(self) -> None:
        """What must hold at every moment: nothing written behind the end, no body counted that nobody holds."""
        assert not self.transport.late
        if self.transport.lost:
            assert self.server.buffered_bytes == 0
            assert self.server.crowd.waiting_bytes == 0
            assert self.connection not in self.server.connections


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at these places."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def replies(out: bytes) -> Iterator[Reply]:
    """Reads answers with Content-Length or chunks, strictly, and fails where there is anything else."""
    while out:
        head, blank, out = out.partition(b"\r\n\r\n")
        assert blank, f"an answer's head is cut: {head!r}"
        line, *lines = head.split(b"\r\n")
        version, status, _ = line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        fields = {name.lower(): value for name, value in (each.split(b": ", 1) for each in lines)}
        if int(status) < 200:
            yield Reply(int(status), fields, b"")
            continue
        if b"content-length" in fields:
            length = int(fields[b"content-length"])
            assert len(out) >= length, "an answer's body is cut"
            body, out = out[:length], out[length:]
        else:
            body, out = dechunked(out)
        yield Reply(int(status), fields, body)


def dechunked(data: bytes) -> tuple[bytes, bytes]:
    """Returns the payload of a chunked body and what stands behind it. Fails where the last chunk is missing."""
    payload, at = bytearray(), 0
    while True:
        line_end = data.find(b"\r\n", at)
        assert line_end >= 0, "the last chunk is missing"
        length = int(data[at:line_end].partition(b";")[0], 16)
        end = line_end + 2 + length
        assert data[end : end + 2] == b"\r\n", "a chunk is cut"
        payload += data[line_end + 2 : end]
        at = end + 2
        if not length:
            return bytes(payload), data[at:]


@dataclass
class Sink:
    """Takes an upstream's answer, as `AnswerSink` says, and remembers it."""

    head: AnswerHead | None = None
    payload: bytes = b""
    raw: bytes = b""
    whole: list[bytes] = field(default_factory=list)  # reads that were said to be whole chunks
    ended: bool = False
    error: RouterError | None = None
    finished_reads: int = 0
    flowing: bool = False

    def head_received(self, head: AnswerHead) -> None:
        assert self.head is None
        self.head = head

    def body_received(self, data: bytes, payload: bytes, whole_chunks: bool, /) -> None:
        assert self.head is not None
        assert not self.over
        self.raw += data
        self.payload += payload
        if whole_chunks:
            self.whole.append(data)
            # What is said to be whole chunks must be: they are relayed as they are.
            assert dechunked(data + b"0\r\n\r\n") == (payload, b"")

    def whole_received(self, head: AnswerHead, payload: bytes) -> None:
        self.head_received(head)
        self.body_received(payload, payload, False)
        self.answer_ended()

    def answer_ended(self) -> None:
        assert not self.over
        self.ended = True

    def answer_broken(self, error: RouterError) -> None:
        assert not self.over
        self.error = error

    def read_finished(self) -> None:
        self.finished_reads += 1

    @property
    def over(self) -> bool:
        return self.ended or self.error is not None
