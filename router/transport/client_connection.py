"""The client's end of the wire: one connection, and on it one request after the other.

A request is handed up when its head is whole and good; its body arrives while it is being served. The client is never
paused (a paused transport notices neither FIN nor RST): what comes behind a running request is kept, up to a bound.
"""

import asyncio
import enum
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from router.base.errors import MalformedHttpError, RouterError
from router.base.heap import CROWDED_BYTES
from router.limits.admission import admit_body, bodies_too_many
from router.transport.framing import ChunkedBody
from router.transport.heads import RequestHead, check_partial, parse_request_head, too_large
from router.transport.inbound import Inbound
from router.transport.sockets import address_of, has_unread, set_client_options
from router.transport.tls import linger, names_of

if TYPE_CHECKING:
    from router.transport.server import Server

EMPTY_LINE_BYTES_MAX: Final = 16  # before a request line
EARLY_BYTES_MAX: Final = 256 << 10  # of a body that nobody has asked for yet, kept without being counted
DRAIN_BYTES_MAX: Final = 256 << 10  # of an unwanted body, read and thrown away to keep the connection
WRITE_BUFFER_HIGH: Final = 64 << 10
TURNED_AWAY_MAX: Final = 64
FIRST_REQUEST_S: Final = 1.0  # for a client that had just connected when a drain began
LINGER_S: Final = 2.0  # for a client to take the last bytes, before the connection is aborted

_RESET: Final = struct.pack("ii", 1, 0)


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
        "_waiting",
        "body_begun",
        "certificates",
        "overrun",
        "peer",
        "progress_at",
        "server",
        "tick",
        "transport",
        "write_paused",
    )

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.tick = 0
        self.peer = ""  # the client's address; who knows it better than the socket sets it before
        self.certificates: tuple[str, ...] = ()  # what names the client's, which has been verified
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
        self._waiting = 0  # bytes of the head in the making and of the backlog, as counted by the crowd
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
        self.peer = self.peer or address_of(transport)
        if server.bounds.tls_context is not None:
            self.certificates = names_of(transport.get_extra_info("ssl_object"))
        refused = server.crowd.enter(self, server.bounds)
        if refused:
            self._turn_away(refused)
            return
        set_client_options(transport)
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
        self._waits_no_more()
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
            self.server.crowd.count("keepalive_timeout")
            self._close(self.server.bounds.keepalive_timeout_s)
        elif self._state in (_DRAIN, _CLOSING, _FULL):
            if self._state is not _CLOSING:
                self.server.crowd.count("not_read" if self._state is _FULL else "body_timeout")
            self.abort()
        return None

    def _watch_head(self, seconds: float) -> None:
        self._deadline = monotonic() + seconds
        self.server.wheel.ensure(self, self._deadline)

    # -- reading

    def _take_head(self, data: bytes) -> None:
        head_bytes_max = self.server.bounds.head_bytes_max
        if self._buffer:
            self._buffer += data
            if not self._wait(len(data)):
                return
            data = bytes(self._buffer) if b"\n" in data or len(self._buffer) > head_bytes_max else b""
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
                    if not self._wait(len(data)):
                        return
                check_partial(data, head_bytes_max)
                return
            if end > head_bytes_max:
                raise too_large(data, head_bytes_max)
            head = parse_request_head(data[:end])
        except MalformedHttpError as error:
            self._refuse(error)
            return
        if self._head is None:
            self.server.crowd.known(self)
        self._head = head
        if self._buffer:
            self._buffer = bytearray()
            self._waits_no_more()
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
            if isinstance(error, MalformedHttpError):
                server.crowd.count(error.code)
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
        if len(self._backlog) > self.server.bounds.pipelined_bytes_max or _requests_in(self._backlog) > 1:
            self._overran("pipelined")
        elif not self._wait_for(len(data)):
            self._overran("waiting_bytes_max")

    def _overran(self, reason: str) -> None:
        self.server.crowd.count(reason)
        self.overrun = True
        self._backlog = b""
        self._waits_no_more()

    def _wait_for(self, size: int) -> bool:
        """Counts bytes that are kept until they can be used. False: too many wait, over all connections."""
        self._waiting += size
        return self.server.crowd.wait(size, self.server.bounds)

    def _wait(self, size: int) -> bool:
        """Counts bytes of a head in the making. False: the connection had to go, for them or for room."""
        if not self._wait_for(size) and self.transport is not None and self._state is _HEAD:
            self.server.crowd.count("waiting_bytes_max")
            self._close_with(self.server.handler.crowded())
        return self._state is _HEAD

    def _waits_no_more(self) -> None:
        self.server.crowd.waiting_bytes -= self._waiting
        self._waiting = 0

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

    @property
    def behind(self) -> bool:
        """Something has come behind the running request."""
        return self.overrun or bool(self._backlog)

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
        if server.ending and not self._backlog and not has_unread(self.transport):
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
            self._waits_no_more()
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
        self._waits_no_more()
        if self.transport is not None:
            self.server.outbox.flush()
            self.transport.abort()

    def end_after_this(self) -> bool:
        """Has the answer that a client waits for say that it is the last. False where it waits for none or for more."""
        inbound = self._inbound
        if inbound is None or inbound.answer_begun or self._backlog:
            return False
        inbound.keep_alive = False
        return True

    def end_if_idle(self) -> None:
        """Closes between requests; a running one ends first, and so does one that has come and was not read yet."""
        if self._state is not _HEAD or self._buffer or has_unread(self.transport):
            return
        if self._head is None:
            self._watch_head(FIRST_REQUEST_S)
        else:
            self._close(self.server.bounds.keepalive_timeout_s)

    def doubt_certificate(self) -> None:
        """Ends after the running request, or now. What has come behind that one is asked without a certificate."""
        self.certificates = ()
        if self._inbound is not None:
            self._inbound.keep_alive = False
        else:
            self.end_if_idle()

    def cut(self, error: RouterError) -> None:
        """Ends the running request with `error`, or else the connection."""
        inbound = self._inbound
        if inbound is None:
            self.abort()
        else:
            inbound.throw(error)

    # -- ending

    def _refuse(self, error: MalformedHttpError) -> None:
        self.server.crowd.count(error.code)
        self._close_with(self.server.handler.refused(error))

    def _turn_away(self, reason: str) -> None:
        """Answers a connection beyond a bound. Only so many of these may linger: descriptors are what is short."""
        server = self.server
        server.crowd.count(reason)
        answer = server.handler.crowded()
        if len(server.turned_away) < TURNED_AWAY_MAX:
            server.turned_away.add(self)
            self._close_with(answer)
        else:
            self.write(answer)
            self.abort()

    def _close_with(self, answer: bytes) -> None:
        self._buffer = bytearray()
        self._waits_no_more()
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
            linger(self.transport)
            self.server.outbox.end_writing(self.transport)
            self._deadline = monotonic() + LINGER_S
            self.server.wheel.ensure(self, self._deadline)


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
