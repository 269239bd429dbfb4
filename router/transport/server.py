"""All clients' connections of one process: what they share, what bounds them, and their end."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol

from router.base.errors import MalformedHttpError, RouterError
from router.base.heap import Heap
from router.transport.answer_outbox import AnswerOutbox
from router.transport.arrivals import HANDSHAKES, PROXY_HEADERS, Arrival
from router.transport.client_connection import Connection
from router.transport.crowd import Crowd, Room
from router.transport.inbound import Inbound
from router.transport.wheel import Wheel


class Handler(Protocol):
    """What serves requests; the transport knows no more of it."""

    def request_begun(self, inbound: Inbound) -> None:
        """A request's head is here. Runs its coroutine with `inbound.run`."""
        ...

    def refused(self, error: MalformedHttpError) -> bytes:
        """Returns the whole answer to bytes that are no request, and counts them."""
        ...

    def crowded(self) -> bytes:
        """Returns the whole answer to a connection beyond the bound."""
        ...


class Bounds(Room, Protocol):
    """What bounds connections, and what one may send; read at each use, as `Room` is."""

    @property
    def body_bytes_max(self) -> int: ...
    @property
    def buffered_bytes_max(self) -> int: ...
    @property
    def head_bytes_max(self) -> int: ...
    @property
    def pipelined_bytes_max(self) -> int: ...
    @property
    def tls_context(self) -> ssl.SSLContext | None: ...
    @property
    def handshake_timeout_s(self) -> float: ...
    @property
    def head_timeout_s(self) -> float: ...
    @property
    def body_timeout_s(self) -> float: ...
    @property
    def keepalive_timeout_s(self) -> float: ...


class Server:
    """All connections of one listener, and what they share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel, handler: Handler, bounds: Bounds) -> None:
        self.loop, self.wheel, self.handler, self.bounds = loop, wheel, handler, bounds
        self.crowd = Crowd()
        self.connections = self.crowd.connections
        self.turned_away: set[Connection] = set()  # beyond the bound, until they have read why
        self.outbox = AnswerOutbox(loop)
        self.draining = False  # an answer that begins now says that it is its connection's last
        self.ending = False  # who asks for nothing is closed
        self.buffered_bytes = 0  # of request bodies, over all connections
        self.heap = Heap()  # where they are
        self.on_empty: Callable[[], None] | None = None
        self.arriving: dict[Arrival, None] = {}  # the oldest first: no connections yet
        self.handshakes = dict.fromkeys(HANDSHAKES, 0)  # by how they ended, since the start
        self.proxy_headers = dict.fromkeys(PROXY_HEADERS, 0)

    @property
    def empty(self) -> bool:
        """Nobody is connected, and nobody about to be."""
        return not self.connections and not self.arriving

    def protocol(self) -> Connection:
        """The factory for `loop.create_server`."""
        return Connection(self)

    def drain(self, *, patient: bool = False) -> None:
        """Ends idle connections now and the others after their running request.

        `patient`: an idle one has its usual time for one more request, which may be on its way already.
        """
        self.draining = True
        if patient:
            return
        self.ending = True
        for connection in tuple(self.connections):
            connection.end_if_idle()

    def doubt_certificates(self) -> None:
        """An authority of clients' certificates is believed no more: who has shown one is to show it anew."""
        for connection in tuple(self.connections):
            if connection.certificates:
                connection.doubt_certificate()

    def cut(self, error: RouterError) -> None:
        """Ends all running requests with `error`; an answer that has begun is broken off, and its client sees it."""
        for connection in tuple(self.connections):
            connection.cut(error)

    def shed(self, count: int) -> None:
        """Lets so many clients dial anew after the answer that they wait for: another worker may have fewer of them."""
        leaving = 0
        for connection in tuple(self.connections):
            if connection.end_after_this():
                leaving += 1
                if leaving >= count:
                    break

    def abort(self) -> None:
        """Ends all connections at once, and those that are about to be some."""
        for arrival in tuple(self.arriving):
            arrival.abort()
        for connection in tuple(self.connections):
            connection.abort()

    def forget(self, connection: Connection) -> None:
        self.crowd.leave(connection)
        self.turned_away.discard(connection)
        self.left()

    def left(self) -> None:
        """Somebody is gone: tells who waits for the last."""
        if self.empty and self.on_empty is not None:
            self.on_empty()
