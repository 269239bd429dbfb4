"""Connections that begin with something before HTTP: a PROXY header, a TLS handshake, or one and then the other.

Until that is through they are sockets and no connections of the server. The header is looked at where it lies, in the
kernel, and exactly its bytes are taken: what is behind it is TLS's or HTTP's own. A handshake begins when all of the
client's first message is here, and one in a turn of the loop: its signature takes as long as dozens of requests, so
that a flood of handshakes would stop them all. Between two of them the loop serves whatever else there is.
"""

import asyncio
import contextlib
import enum
import select
import socket
import ssl
import struct
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from router.base.addresses import source_of
from router.base.errors import MalformedHttpError
from router.transport.crowd import are_enough
from router.transport.listening import BACKLOG
from router.transport.origins import trusted
from router.transport.preamble import (
    HEADER_START,
    HELLO_START,
    PreambleError,
    client_of,
    header_length,
    hello_length,
)
from router.transport.tls import farewell_to, reason_of

if TYPE_CHECKING:
    from router.transport.server import Server

ACCEPTED_AT_ONCE: Final = 64
HANDSHAKES_MAX: Final = 512  # under way; beyond it the one that has waited longest for its client is ended
TAKEN_S: Final = 1.0  # accepting rests so long where it fails: there are no descriptors
HANDSHAKE_S = SHUTDOWN_S = 3600.0  # what the loop is told: the wheel has the true deadlines, of the configuration
LOOK_AGAIN_S: Final = 0.01
UNREAD_BYTES: Final = 64 << 10
_RESET: Final = struct.pack("ii", 1, 0)

HANDSHAKES: Final = (
    "ok",
    "closed",  # by the client
    "timeout",
    "no_tls",  # HTTP in the clear, most likely
    "hello",  # the first message is none, or comes in pieces
    "version",
    "cipher",
    "certificate",  # the client's is not believed
    "no_certificate",  # and it must have one
    "refused",  # by the client: it does not believe ours, for one
    "crowded",
    "protocol",
)
"""How a handshake ends."""
PROXY_HEADERS: Final = ("ok", "local", "untrusted", "malformed", "closed", "timeout", "crowded")
"""What becomes of a connection that must begin with a PROXY header; `local`: it is the proxy's own."""


class Stage(enum.Enum):
    """What an arrival waits for."""

    HEADER = 1
    HELLO = 2
    TURN = 3  # the loop's
    HANDSHAKE = 4


class Arrival:
    """One connection until it is the server's."""

    __slots__ = ("_all", "_length", "ends_at", "peer", "sock", "source", "stage", "task", "tick")

    def __init__(self, all_: "Arrivals", sock: socket.socket, peer: str, stage: Stage, ends_at: float) -> None:
        self.sock, self.peer, self.stage, self.ends_at = sock, peer, stage, ends_at
        self.source = ""  # as what it is counted, once that is known
        self.tick = 0
        self.task: asyncio.Task[None] | None = None
        self._all = all_
        self._length = 0  # bytes that are waited for

    def wait_for(self, length: int) -> None:
        """Wakes when so many bytes are here, and for no fewer."""
        self._length = length
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)

    def abort(self) -> None:
        self._all.end(self, "closed")

    def on_time(self, _now: float) -> None:
        self._all.end(self, "timeout")

    def readable(self) -> None:
        """Takes a step as soon as there is enough for it."""
        try:
            start = self.sock.recv(self._length, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            start = b""
        if not start:
            self._all.end(self, "closed")
            return
        try:
            self._step(start)
        except PreambleError:
            self._all.misfit(self, start)

    def _step(self, start: bytes) -> None:
        """Raises PreambleError."""
        header = self.stage is Stage.HEADER
        length = (header_length if header else hello_length)(start)
        if len(start) < length:
            if length > self._length:
                self.wait_for(length)
                return
        elif length:
            if header:
                self._all.header_came(self, self.sock.recv(length))
            else:
                self._all.hello_came(self)
            return
        # Fewer bytes than were waited for: the end has come, or the kernel is short of memory.
        self._all.look_again(self)


class Arrivals:
    """All of one process, of all its listening sockets."""

    def __init__(self, server: "Server") -> None:
        self._server, self._loop = server, server.loop
        self._listening: list[socket.socket] = []
        self._turns: deque[Arrival] = deque()
        self._handshakes: dict[Arrival, None] = {}  # under way, the oldest first
        self._by_source: dict[str, int] = {}

    def listen(self, sock: socket.socket) -> None:
        """`sock`: is bound, and not blocking. It may listen already."""
        sock.listen(BACKLOG)  # one that was opened for another worker, or withdrawn, does not
        self._listening.append(sock)
        self._loop.add_reader(sock.fileno(), self._accept, sock)

    def close(self) -> None:
        """Accepts nobody any more. Who has arrived may go on."""
        while self._listening:
            sock = self._listening.pop()
            self._loop.remove_reader(sock.fileno())
            sock.close()

    # -- from the listening sockets

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                self._rest(listening)
                return
            sock.setblocking(False)
            self._take(sock, str(address[0]))

    def _rest(self, listening: socket.socket) -> None:
        """There are no descriptors: who waits goes on waiting."""
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(TAKEN_S, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _take(self, sock: socket.socket, peer: str) -> None:
        server = self._server
        bounds, arriving = server.bounds, server.arriving
        if bounds.proxy_protocol and not trusted(peer, bounds.trusted_proxies):
            server.proxy_headers["untrusted"] += 1
            _reset(sock)
            return
        if arriving and len(server.connections) + len(arriving) >= server.crowd.most(bounds):
            # Of all who take up room these have shown least: the one that was given most time goes.
            self.end(next(iter(arriving)), "crowded")
        stage = Stage.HEADER if bounds.proxy_protocol else Stage.HELLO
        if stage is Stage.HELLO and self._are_enough(peer):
            _reset(sock)
            return
        arrival = Arrival(self, sock, peer, stage, monotonic() + bounds.handshake_timeout_s)
        arriving[arrival] = None
        if stage is Stage.HELLO:
            self._count(arrival)
        server.wheel.arm(arrival, arrival.ends_at)
        arrival.wait_for(HEADER_START if stage is Stage.HEADER else HELLO_START)
        self._loop.add_reader(sock.fileno(), arrival.readable)

    def _are_enough(self, peer: str) -> bool:
        """As many from one address as may be connected may be about to be: a handshake costs more than a request."""
        server = self._server
        if not are_enough(peer, self._by_source.get(source_of(peer), 0), server.bounds):
            return False
        server.crowd.count("connections_per_address_max")
        return True

    def _count(self, arrival: Arrival) -> None:
        arrival.source = source = source_of(arrival.peer)
        self._by_source[source] = self._by_source.get(source, 0) + 1

    # -- steps of an arrival

    def look_again(self, arrival: Arrival) -> None:
        """What was waited for cannot be told from what is here. Later, so that the loop does not spin on it."""
        self._loop.remove_reader(arrival.sock.fileno())
        self._loop.call_later(LOOK_AGAIN_S, self._look, arrival)

    def _look(self, arrival: Arrival) -> None:
        if arrival in self._server.arriving:
            if _half_closed(arrival.sock):
                self.end(arrival, "closed")
            else:
                self._loop.add_reader(arrival.sock.fileno(), arrival.readable)

    def header_came(self, arrival: Arrival, header: bytes) -> None:
        """Raises PreambleError."""
        client = client_of(header)
        self._server.proxy_headers["ok" if client else "local"] += 1
        arrival.peer = client or arrival.peer
        if self._server.bounds.tls_context is None:
            arrival.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._loop.remove_reader(arrival.sock.fileno())
            self._begin(arrival)
        elif self._are_enough(arrival.peer):
            arrival.stage = Stage.HELLO
            self.end(arrival, "crowded")
        else:
            arrival.stage = Stage.HELLO
            self._count(arrival)
            arrival.wait_for(HELLO_START)

    def hello_came(self, arrival: Arrival) -> None:
        arrival.stage = Stage.TURN
        arrival.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._loop.remove_reader(arrival.sock.fileno())
        if not self._turns:
            self._loop.call_soon(self._next_turn)
        self._turns.append(arrival)

    def _next_turn(self) -> None:
        """One: whoever is next has the next turn, and requests that came meanwhile are served before."""
        while self._turns:
            arrival = self._turns.popleft()
            if arrival in self._server.arriving:
                if len(self._handshakes) >= HANDSHAKES_MAX:
                    self.end(next(iter(self._handshakes)), "crowded")
                self._handshakes[arrival] = None
                self._begin(arrival)
                break
        if self._turns:
            self._loop.call_soon(self._next_turn)

    def _begin(self, arrival: Arrival) -> None:
        arrival.stage = Stage.TURN
        arrival.task = self._loop.create_task(self._hand_over(arrival))

    async def _hand_over(self, arrival: Arrival) -> None:
        """The rest is the loop's: it reads the client's first message, and tells the connection once all is well."""
        server, sock = self._server, arrival.sock
        context = server.bounds.tls_context
        arrival.stage = Stage.HANDSHAKE
        connection = server.protocol()
        connection.peer = arrival.peer
        result = "closed"
        try:
            if context is None:
                await self._loop.connect_accepted_socket(lambda: connection, sock)
            else:
                with farewell_to(sock):
                    await self._loop.connect_accepted_socket(
                        lambda: connection,
                        sock,
                        ssl=context,
                        ssl_handshake_timeout=HANDSHAKE_S,
                        ssl_shutdown_timeout=SHUTDOWN_S,
                    )
            if connection.transport is not None:  # a client that hangs up ends a handshake without an error
                result = "ok"
        except ssl.SSLError as error:
            result = reason_of(error)
        except OSError:
            pass
        if arrival in server.arriving:
            self._forget(arrival, result)
        if server.ending:
            connection.end_if_idle()

    # -- ends

    def misfit(self, arrival: Arrival, start: bytes) -> None:
        """It does not begin as it must. Who speaks HTTP where TLS is spoken is told so."""
        if arrival.stage is Stage.HEADER:
            self.end(arrival, "malformed")
        elif b"A" <= start[:1] <= b"Z":
            error = MalformedHttpError("This port is spoken to in TLS: begin the URL with https://.")
            answer = self._server.handler.refused(error)
            _say(arrival.sock, answer)
            self.end(arrival, "no_tls")
        else:
            self.end(arrival, "hello" if start[:1] == b"\x16" else "no_tls")

    def end(self, arrival: Arrival, result: str) -> None:
        """At once, whatever stage it is at."""
        stage = arrival.stage
        self._forget(arrival, result)
        if arrival.task is not None:
            arrival.task.cancel()
        if stage is not Stage.HANDSHAKE:  # from there on the socket is the loop's, which closes it
            self._loop.remove_reader(arrival.sock.fileno())
            arrival.sock.close()

    def _forget(self, arrival: Arrival, result: str) -> None:
        server = self._server
        server.wheel.disarm(arrival)
        self._handshakes.pop(arrival, None)
        del server.arriving[arrival]
        if (source := arrival.source) and (left := self._by_source.pop(source) - 1):
            self._by_source[source] = left
        if arrival.stage is Stage.HEADER:
            server.proxy_headers[result] += 1
        elif server.bounds.tls_context is not None:
            server.handshakes[result] += 1
        server.left()


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _half_closed(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def _say(sock: socket.socket, answer: bytes) -> None:
    """Bytes that are left unread would make a reset of the close, which destroys what was said."""
    with contextlib.suppress(OSError):
        sock.recv(UNREAD_BYTES)
        sock.send(answer)
