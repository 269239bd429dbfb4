"""The client's end of the wire: one connection, and on it one request after the other.

A request is handed up when its head is whole and good; its body arrives while it is being served. The client is never
paused (a paused transport notices neither FIN nor RST): what comes behind a running request is kept, up to a bound.
"""

import asyncio
import enum
import socket
import struct
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol, cast

import httptools

from router.base.errors import ClientGoneError, MalformedHttpError, RouterError
from router.base.heap import CROWDED_BYTES, Heap
from router.limits.admission import admit_body, bodies_too_many
from router.transport.answer_outbox import AnswerOutbox
from router.transport.fiber import Fiber
from router.transport.framing import LAST_CHUNK, chunk
from router.transport.heads import HEAD_BYTES_MAX, RequestHead, check_partial, parse_request_head, too_large
from router.transport.wheel import Wheel

BACKLOG_BYTES_MAX: Final = 64 << 10  # behind a running request
EMPTY_LINE_BYTES_MAX: Final = 16  # before a request line
EARLY_BYTES_MAX: Final = 256 << 10  # of a body that nobody has asked for yet, kept without being counted
DRAIN_BYTES_MAX: Final = 256 << 10  # of an unwanted body, read and thrown away to keep the connection
WRITE_BUFFER_HIGH: Final = 64 << 10
TURNED_AWAY_MAX: Final = 64
LINGER_S: Final = 2.0  # for a client to take the last bytes, before the connection is aborted
BODY_RATE_MIN: Final = 1 << 10  # bytes a second: a body that drips is late, however steadily
FRAMING_BYTES_SLACK: Final = 1 << 20  # of a chunked body: sizes, extensions, trailers, beyond 8 bytes a payload byte

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)


class Handler(Protocol):
    """What serves requests; the transport knows no more of it."""

    def request_begun(self, inbound: "Inbound") -> None:
        """A request's head is here. Runs its coroutine with `inbound.run`."""
        ...

    def refused(self, error: MalformedHttpError) -> bytes:
        """Returns the whole answer to bytes that are no request, and counts them."""
        ...

    def crowded(self) -> bytes:
        """Returns the whole answer to a connection beyond the bound."""
        ...


class Bounds(Protocol):
    """What limits a connection. Read at each use, so what a reload puts in its place acts at once."""

    @property
    def body_bytes_max(self) -> int: ...
    @property
    def buffered_bytes_max(self) -> int: ...
    @property
    def connections_max(self) -> int: ...
    @property
    def head_timeout_s(self) -> float: ...
    @property
    def body_timeout_s(self) -> float: ...
    @property
    def keepalive_timeout_s(self) -> float: ...


class State(enum.Enum):
    """Where a connection stands."""

    HEAD = 1  # between requests, or in the middle of a head
    BODY = 2  # a request runs and its body is not whole
    BUSY = 3  # a request runs and its body is whole
    DRAIN = 4  # answered; the rest of its body is thrown away
    CLOSING = 5  # nothing that comes is read any more
    FULL = 6  # answered, and the client has not taken the answer: the next request waits until it has


# A member is found through its class each time it is named: these are looked at several times a request.
_HEAD, _BODY, _BUSY, _DRAIN, _CLOSING, _FULL = State


class Server:
    """All connections of one listener, and what they share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel, handler: Handler, bounds: Bounds) -> None:
        self.loop, self.wheel, self.handler, self.bounds = loop, wheel, handler, bounds
        self.connections: set[Connection] = set()
        self.turned_away: set[Connection] = set()  # beyond the bound, until they have read why
        self.outbox = AnswerOutbox(loop)
        self.draining = False
        self.buffered_bytes = 0  # of request bodies, over all connections
        self.heap = Heap()  # where they are
        self.on_empty: Callable[[], None] | None = None

    def protocol(self) -> "Connection":
        """The factory for `loop.create_server`."""
        return Connection(self)

    def drain(self) -> None:
        """Ends idle connections now and the others after their running request."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.end_if_idle()

    def cut(self, error: RouterError) -> None:
        """Ends all running requests with `error`; an answer that has begun is broken off, and its client sees it."""
        for connection in tuple(self.connections):
            connection.cut(error)

    def forget(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        self.turned_away.discard(connection)
        if not self.connections and self.on_empty is not None:
            self.on_empty()


class Inbound(Fiber):
    """One request as its client sends and reads it, and the fiber that serves it.

    Nothing here is async but `read_body`: writing goes into the transport's buffer, and `write_paused` says whether
    the client keeps up.
    """

    body: bytes | bytearray = b""
    body_whole = False
    first_byte_at = 0.0  # monotonic seconds of the first byte of the answer, 0 while there is none
    bytes_in = 0  # head and body
    bytes_out = 0
    answer_chunked = False
    on_write_pause: Callable[[bool], None] | None = None  # True: the client does not keep up; False: it does
    _ended = False

    def __init__(self, connection: "Connection", head: RequestHead, now: float) -> None:
        self.wheel = connection.server.wheel
        self.head = head
        self.body_length = head.body_length  # the head is shared by all requests that repeat it but for the length
        self.keep_alive = head.keep_alive
        self.started_at = now
        self._connection = connection
        self._transport = connection.transport  # None once the connection is lost

    @property
    def answer_begun(self) -> bool:
        return self.first_byte_at > 0.0

    @property
    def write_paused(self) -> bool:
        return self._connection.write_paused

    @property
    def reusable(self) -> bool:
        """The connection may carry another request after this one."""
        return self.keep_alive and not self._connection.server.draining and not self._connection.overrun

    def watch(self, deadline: float) -> None:
        """On its connection's entry, which stays in the wheel from request to request; on its own once that is gone."""
        if self._transport is not None:
            self.wheel.ensure(self._connection, deadline)
        else:
            self.wheel.arm(self, deadline)

    def connection_lost(self) -> None:
        """Nobody reads any more."""
        self._transport = None
        self.throw(ClientGoneError("The client closed the connection."))

    async def read_body(self) -> None:
        """Waits until `body` is whole. Raises MalformedHttpError (400, 408, 413), or ClientGoneError."""
        if self.body_whole:
            return
        connection = self._connection
        body_timeout_s = connection.server.bounds.body_timeout_s
        began = connection.progress_at
        connection.make_room(self)
        if self.head.expects_continue and not connection.body_begun:
            connection.write(_CONTINUE)
        while not self.body_whole:
            at_rate = began + connection.body_bytes / BODY_RATE_MIN
            await self.park(min(connection.progress_at, at_rate) + body_timeout_s, body_late)

    def release_body(self) -> None:
        """Frees the body: no further attempt will need it."""
        if self.body:
            self._connection.release_body(self)

    def answer_whole(self, status_line: bytes, headers: bytes, body: bytes, now: float) -> None:
        """Sends an answer from its first byte to its last: most are short, and ready at one moment."""
        connection, transport, head = self._connection, self._transport, self.head
        usual = self.keep_alive and self.body_whole and head.minor == 1 and head.method != b"HEAD"
        if not usual or transport is None or connection.overrun or connection.server.draining:
            self.begin_answer(status_line, headers, body, now)
            self.end()
            return
        self.first_byte_at = now
        self._ended = True
        data = b"%b%bcontent-length: %d\r\n\r\n%b" % (status_line, headers, len(body), body)
        self.bytes_out = len(data)
        connection.server.outbox.write(transport, data)
        connection.request_ended(self, now)

    def begin_answer(self, status_line: bytes, headers: bytes, body: bytes | None, now: float) -> None:
        """Sends an answer's head: with `body` whole, or chunked (None) for `write` and `end`.

        An HTTP/1.0 client gets no chunked coding; its body ends with the connection.
        """
        if body is not None:
            framing = b"content-length: %d\r\n" % len(body)
        elif self.head.minor == 1:
            self.answer_chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False
            framing = b""
        self._begin(status_line, headers, framing, body or b"", now)

    def begin_sized_answer(self, status_line: bytes, headers: bytes, length: int, now: float) -> None:
        """Sends the head of an answer whose `length` bytes are to follow."""
        self._begin(status_line, headers, b"content-length: %d\r\n" % length, b"", now)

    def _begin(self, status_line: bytes, headers: bytes, framing: bytes, body: bytes, now: float) -> None:
        self.first_byte_at = now
        if self.reusable and (self.body_whole or self._connection.can_drain(self)):
            connection = b"\r\n" if self.head.minor == 1 else b"connection: keep-alive\r\n\r\n"
        else:
            self.keep_alive = False
            connection = b"connection: close\r\n\r\n"
        content = body if self.head.method != b"HEAD" else b""
        self.write(b"".join((status_line, headers, framing, connection, content)))

    def write(self, data: bytes) -> None:
        """Sends bytes as they are: already framed for this client."""
        transport = self._transport
        if transport is not None:
            self.bytes_out += len(data)
            self._connection.server.outbox.write(transport, data)

    def write_payload(self, payload: bytes) -> None:
        """Sends payload of a chunked answer, in the framing that this client reads."""
        if payload:
            self.write(chunk(payload) if self.answer_chunked else payload)

    def end(self) -> None:
        """The answer is whole: the connection goes on to the next request, or ends."""
        if not self._ended:
            self._ended = True
            if self.answer_chunked:
                self.write(LAST_CHUNK)
            self._connection.request_ended(self, monotonic())

    def break_off(self, last_words: bytes) -> None:
        """Ends an answer that is not whole so that the client can see it: never with the last chunk.

        `last_words`: an error event in an event stream, or nothing.
        """
        if self._ended:
            return
        self._ended = True
        self.write_payload(last_words)
        self._connection.break_off(self, reset=not self.answer_chunked and self.head.minor == 0)

    def abandon(self) -> None:
        """The client is gone, or must go: nothing more is sent."""
        if not self._ended:
            self._ended = True
            self._connection.abort()


class Connection(asyncio.Protocol):
    """One client's connection. The transport's callbacks are the only way in."""

    __slots__ = (
        "_backlog",
        "_buffer",
        "_chunked",
        "_deadline",
        "_discard_left",
        "_head",
        "_inbound",
        "_received",
        "_state",
        "body_begun",
        "overrun",
        "progress_at",
        "server",
        "tick",
        "transport",
        "write_paused",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tick = 0
        self.write_paused = False
        self.overrun = False  # more came behind the running request than is kept: close after it
        self.progress_at = 0.0
        self.body_begun = False
        self.transport: asyncio.Transport | None = None
        self._state = _HEAD
        self._buffer = bytearray()
        self._backlog = b""
        self._inbound: Inbound | None = None
        self._chunked: ChunkedBody | None = None
        self._received = 0
        self._discard_left = 0
        self._deadline = 0.0
        self._head: RequestHead | None = None  # the last good one

    # -- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, and have all that is used here.
        self.transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH)
        server = self.server
        if len(server.connections) >= server.bounds.connections_max or server.draining:
            self._turn_away()
            return
        server.connections.add(self)
        _set_socket_options(transport)
        self._watch_head(server.bounds.head_timeout_s)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is _HEAD:
            # Usual on a kept connection: a head that differs from the last in its Content-Length alone.
            known = self._head
            end = known.repeated_in(data) if known is not None and not self._buffer else 0
            if end and known is not None:
                self._begin(known, data, end)
            else:
                self._take_head(data)
        elif state is _BODY:
            self._take_body(data)
        elif state in (_BUSY, _FULL):
            self._take_backlog(data)
        elif state is _DRAIN:
            self._drain(data)

    def eof_received(self) -> None:
        """The transport closes itself: half-closed clients are taken for gone."""

    def connection_lost(self, _exc: Exception | None) -> None:
        self.server.wheel.disarm(self)
        self._state = _CLOSING
        self.transport = None
        self._buffer = bytearray()
        self._backlog = b""
        inbound = self._inbound
        if inbound is not None:
            inbound.connection_lost()
            self.release_body(inbound)
            self._forget_chunks()
            self._inbound = None
        self.server.forget(self)

    def pause_writing(self) -> None:
        self.write_paused = True
        inbound = self._inbound
        if inbound is not None and inbound.on_write_pause is not None:
            inbound.on_write_pause(True)

    def resume_writing(self) -> None:
        self.write_paused = False
        inbound = self._inbound
        if inbound is not None and inbound.on_write_pause is not None:
            inbound.on_write_pause(False)
        elif self._state is _FULL:
            self._next_request(monotonic())

    # -- the wheel's callback: a head or an idle wait that takes too long, a goodbye that nobody reads

    def on_time(self, now: float) -> float | None:
        inbound = self._inbound
        if inbound is not None:
            return inbound.on_time(now)  # a running request watches its own time
        if now < self._deadline:
            return self._deadline
        if self._state is _HEAD and self._buffer:
            self._refuse(MalformedHttpError("The request's head took too long.", status=408, code="head_timeout"))
        elif self._state is _HEAD:
            self._close(self.server.bounds.keepalive_timeout_s)
        elif self._state in (_DRAIN, _CLOSING, _FULL):
            self.abort()
        return None

    def _watch_head(self, seconds: float) -> None:
        self._deadline = monotonic() + seconds
        self.server.wheel.ensure(self, self._deadline)

    # -- reading

    def _take_head(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            data = bytes(self._buffer) if b"\n" in data or len(self._buffer) > HEAD_BYTES_MAX else b""
            if not data:
                return
        elif data[0] in b"\r\n":
            data = self._without_empty_lines(data)
            if not data:
                return
        end = data.find(b"\r\n\r\n") + 4
        try:
            if end == 3:
                if not self._buffer:
                    self._buffer += data
                    self._watch_head(self.server.bounds.head_timeout_s)
                check_partial(data)
                return
            if end > HEAD_BYTES_MAX:
                raise too_large(data)
            head = self._head = parse_request_head(data[:end])
        except MalformedHttpError as error:
            self._refuse(error)
            return
        if self._buffer:
            self._buffer = bytearray()
        self._received = 0
        self._begin(head, data, end)

    def _without_empty_lines(self, data: bytes) -> bytes:
        rest = data.lstrip(b"\r\n")
        self._received += len(data) - len(rest)
        if self._received > EMPTY_LINE_BYTES_MAX:
            self._refuse(MalformedHttpError("Too many empty lines before the request."))
            return b""
        return rest

    def _begin(self, head: RequestHead, data: bytes, end: int) -> None:
        now = monotonic()
        inbound = self._inbound = Inbound(self, head, now)
        self.body_begun = False
        length, rest = inbound.body_length, len(data) - end
        inbound.bytes_in = end + length
        if 0 < length <= rest:
            # Usual: the whole request in one read.
            inbound.body = data[end : end + length]
            self.server.buffered_bytes += length
            inbound.body_whole = True
            self._state = _BUSY
            if rest > length:
                self._take_backlog(data[end + length :])
            self.server.handler.request_begun(inbound)
        else:
            self._begin_without_body(inbound, data[end:], now)

    def _begin_without_body(self, inbound: Inbound, rest: bytes, now: float) -> None:
        """A request that has no body, or whose body is not all here."""
        if inbound.head.chunked:
            self._state = _BODY
            self._chunked = ChunkedBody(self.server.bounds.body_bytes_max)
            self.progress_at = now
            self.server.handler.request_begun(inbound)
            if rest:
                self.data_received(rest)
            return
        if not inbound.body_length:
            inbound.body_whole = True
            self._state = _BUSY
            if rest:
                self._take_backlog(rest)
        else:
            self._state = _BODY
            self.progress_at = now
            self._received = 0
            self._buffer = bytearray(rest)  # kept small until the request is admitted: see `make_room`
        self.server.handler.request_begun(inbound)

    def make_room(self, inbound: Inbound) -> None:
        """Makes room for a body of known length that has been admitted, unless it is there already."""
        if inbound.body_whole or inbound.head.chunked or inbound.body:
            return
        begun = self._buffer
        inbound.body = bytearray(inbound.body_length)
        self.server.buffered_bytes += inbound.body_length
        self._buffer = bytearray()
        if begun:
            self._take_sized(inbound, begun)

    def _take_body(self, data: bytes) -> None:
        inbound = self._inbound
        assert inbound is not None
        self.progress_at = monotonic()
        if self._chunked is not None:
            self._take_chunked(inbound, data)
        else:
            self._take_sized(inbound, data)
        inbound.wake()

    def _take_sized(self, inbound: Inbound, data: bytes | bytearray) -> None:
        if not isinstance(inbound.body, bytearray) and len(self._buffer) + len(data) > EARLY_BYTES_MAX:
            self._admit_early(inbound)
        if not isinstance(inbound.body, bytearray):  # not admitted yet
            room = inbound.body_length - len(self._buffer)
            self._buffer += data[:room]
            if len(data) > room:
                self._take_backlog(bytes(data[room:]))
            return
        self.body_begun = True
        start, length = self._received, inbound.body_length
        end = start + len(data)
        if end <= length:
            inbound.body[start:end] = data
        else:
            inbound.body[start:length] = data[: length - start]
            self._take_backlog(bytes(data[length - start :]))
        self._received = min(end, length)
        if self._received == length:
            inbound.body_whole = True
            self._state = _BUSY

    def _admit_early(self, inbound: Inbound) -> None:
        """A body that is here before anybody asks for it: what of it is kept counts from now on, and has its bounds."""
        bounds = self.server.bounds
        try:
            admit_body(
                inbound.body_length, bounds.body_bytes_max, self.server.buffered_bytes, bounds.buffered_bytes_max
            )
        except RouterError as error:
            inbound.keep_alive = False
            self._state = _CLOSING
            inbound.throw(error)
        else:
            self.make_room(inbound)

    def _take_chunked(self, inbound: Inbound, data: bytes) -> None:
        body = self._chunked
        assert body is not None
        self.body_begun = True
        server, before = self.server, body.size
        try:
            try:
                body.feed(data)
            finally:
                server.buffered_bytes += body.size - before
            if server.buffered_bytes > server.bounds.buffered_bytes_max:
                raise bodies_too_many()
            if server.buffered_bytes > CROWDED_BYTES:
                server.heap.crowd()
        except RouterError as error:
            inbound.keep_alive = False
            self._state = _CLOSING
            inbound.throw(error)
            return
        if body.complete:
            self.overrun = self.overrun or body.overrun
            inbound.body = body.take()
            inbound.bytes_in += len(inbound.body)
            inbound.body_whole = True
            self._chunked = None
            self._state = _BUSY

    def _take_backlog(self, data: bytes) -> None:
        """Keeps one pipelined request; whoever sends more gets this answer and no other."""
        if self.overrun:
            return
        self._backlog += data
        if len(self._backlog) > BACKLOG_BYTES_MAX or _requests_in(self._backlog) > 1:
            self.overrun = True
            self._backlog = b""

    def _drain(self, data: bytes) -> None:
        self._discard_left -= len(data)
        if self._discard_left < 0:
            self._backlog = data[self._discard_left :]
            self._discard_left = 0
        if self._discard_left == 0:
            self._next_request(monotonic())

    # -- what a request asks of its connection

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.server.outbox.write(self.transport, data)

    def can_drain(self, inbound: Inbound) -> bool:
        """The rest of an unwanted body is short enough to be thrown away."""
        return not inbound.head.chunked and inbound.body_length - self._taken() <= DRAIN_BYTES_MAX

    @property
    def body_bytes(self) -> int:
        """How much of the running request's body has come."""
        return self._chunked.size if self._chunked is not None else self._taken()

    def _taken(self) -> int:
        return self._received + len(self._buffer)

    def release_body(self, inbound: Inbound) -> None:
        self.server.buffered_bytes -= len(inbound.body)
        inbound.body = b""

    def _forget_chunks(self) -> None:
        """Gives back what a chunked body held that never became whole."""
        if self._chunked is not None:
            self.server.buffered_bytes -= self._chunked.size
            self._chunked = None

    def request_ended(self, inbound: Inbound, now: float) -> None:
        """The answer is whole and in the transport's buffer."""
        if inbound is not self._inbound:
            return
        whole = inbound.body_whole
        if whole:
            left = 0
        else:
            left = inbound.body_length - self._taken()
            self._buffer = bytearray()
            self._forget_chunks()
        self.server.buffered_bytes -= len(inbound.body)
        inbound.body = b""
        self._inbound = None
        if self.transport is None:
            return
        if not inbound.keep_alive or self.overrun:
            # Whoever still sends would get a reset from a plain close, which destroys an answer that is under way.
            self._linger() if self.overrun or not whole else self._close(self.server.bounds.keepalive_timeout_s)
        elif left > 0:
            self._state, self._discard_left = _DRAIN, left
            self._watch_head(self.server.bounds.head_timeout_s)
        else:
            self._next_request(now)

    def _next_request(self, now: float) -> None:
        server = self.server
        self._state = _HEAD
        self._received = 0
        if server.draining:
            self._close(server.bounds.keepalive_timeout_s)
            return
        self._deadline = deadline = now + server.bounds.keepalive_timeout_s
        server.wheel.ensure(self, deadline)
        if self.write_paused:
            self._state = _FULL
        elif self._backlog:
            # In a later iteration: a client that pipelines must not grow the stack.
            self._state = _BUSY
            self.server.loop.call_soon(self._take_pipelined)

    def _take_pipelined(self) -> None:
        if self.transport is not None and self._state is _BUSY and self._inbound is None:
            if self.overrun:
                self._linger()
                return
            backlog, self._backlog = self._backlog, b""
            self._state = _HEAD
            self._take_head(backlog)

    def break_off(self, inbound: Inbound, *, reset: bool) -> None:
        """Ends the connection so that the answer cannot be taken for whole."""
        self._inbound = None
        inbound.release_body()
        if self.transport is None:
            return
        if reset:
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.abort()
        else:
            self._close(LINGER_S)

    def abort(self) -> None:
        self._state = _CLOSING
        if self.transport is not None:
            self.server.outbox.flush()
            self.transport.abort()

    def end_if_idle(self) -> None:
        """Closes between requests; a running one ends first."""
        if self._state is _HEAD and not self._buffer and self.transport is not None:
            self._close(self.server.bounds.keepalive_timeout_s)

    def cut(self, error: RouterError) -> None:
        """Ends the running request with `error`, or else the connection."""
        inbound = self._inbound
        if inbound is None:
            self.abort()
        else:
            inbound.throw(error)

    # -- ending

    def _refuse(self, error: MalformedHttpError) -> None:
        self._close_with(self.server.handler.refused(error))

    def _turn_away(self) -> None:
        """Answers a connection beyond the bound. Only so many of these may linger: descriptors are what is short."""
        server = self.server
        answer = server.handler.crowded()
        if len(server.turned_away) < TURNED_AWAY_MAX:
            server.turned_away.add(self)
            self._close_with(answer)
        else:
            self.write(answer)
            self.abort()

    def _close_with(self, answer: bytes) -> None:
        self.write(answer)
        self._linger()

    def _close(self, within_s: float) -> None:
        """Sends what is buffered, then ends; a client that does not read it in time is aborted."""
        self._state = _CLOSING
        if self.transport is not None:
            self.server.outbox.close(self.transport)
            self._deadline = monotonic() + within_s
            self.server.wheel.ensure(self, self._deadline)

    def _linger(self) -> None:
        """Like `_close`, with the client's unread bytes taken in meanwhile: a reset would destroy our answer."""
        self._state = _CLOSING
        if self.transport is not None:
            self.server.outbox.end_writing(self.transport)
            self._deadline = monotonic() + LINGER_S
            self.server.wheel.ensure(self, self._deadline)


class ChunkedBody:
    """Collects a chunked request body. Raises MalformedHttpError for bad framing, a 413 beyond the bound."""

    __slots__ = ("_bytes_max", "_overhead", "_parser", "_payload", "complete", "overrun")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._payload = bytearray()  # in one piece: a list of many small ones would hold a multiple of their bytes
        self._overhead = 0  # bytes that are no payload
        self.complete = False
        self.overrun = False  # bytes came behind the body in the same read; where they begin is not known
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    @property
    def size(self) -> int:
        return len(self._payload)

    def on_message_begin(self) -> None:
        if self.complete:
            raise _BehindBodyError

    def on_body(self, data: bytes) -> None:
        self._payload += data

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> None:
        before = self.size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise MalformedHttpError(f"The request's chunked body is not valid: {error}.") from None
            self.overrun = True
        if self.size > self._bytes_max:
            raise body_too_large(self._bytes_max)
        self._overhead += len(data) - (self.size - before)
        if self._overhead > FRAMING_BYTES_SLACK + 8 * self.size:
            raise MalformedHttpError("The chunked body has more framing than content.")

    def take(self) -> bytearray:
        return self._payload


class _BehindBodyError(Exception):
    """Stops llhttp where a second request would begin."""


def body_late() -> MalformedHttpError:
    """The error of a body that stopped arriving."""
    return MalformedHttpError("The request's body stopped arriving.", status=408, code="body_timeout")


def body_too_large(bytes_max: int) -> MalformedHttpError:
    """The error of a body beyond its bound; nothing after it can be read."""
    return MalformedHttpError(
        f"The request's body is longer than {bytes_max} bytes.", status=413, code="body_too_large"
    )


def _requests_in(backlog: bytes) -> int:
    """At least as many requests as `backlog` holds whole or begun, as far as two matter."""
    end = backlog.find(b"\r\n\r\n")
    if end < 0:
        return 1
    try:
        head = parse_request_head(backlog[: end + 4].lstrip(b"\r\n"))
    except MalformedHttpError:
        return 1
    return 1 if head.chunked or len(backlog) <= end + 4 + head.body_length else 2


def _set_socket_options(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    set_keepalive(sock)


def set_keepalive(sock: socket.socket) -> None:
    """Finds dead peers: probes after 30 s, and gives up on unacknowledged bytes after 30 s."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        option = getattr(socket, name, None)  # Linux has all four, others some
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
