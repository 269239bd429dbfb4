"""One request as its client sends and reads it, and the fiber that serves it; its connection moves the bytes."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from router.base.errors import ClientGoneError, MalformedHttpError
from router.transport.fiber import Fiber
from router.transport.framing import LAST_CHUNK, chunk
from router.transport.heads import RequestHead
from router.transport.origins import client_behind

if TYPE_CHECKING:
    from router.transport.client_connection import Connection

BODY_RATE_MIN: Final = 1 << 10  # bytes a second: a body that drips is late, however steadily

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


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
    def peer(self) -> str:
        """The client's address, of which trusted proxies may have told in a header."""
        connection = self._connection
        forwarded = self.head.fields.get(b"x-forwarded-for")
        return client_behind(connection.peer, forwarded, connection.server.bounds.trusted_proxies)

    @property
    def certificates(self) -> tuple[str, ...]:
        """What names the client's, which has been verified."""
        return self._connection.certificates

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

    def hand_over(self, heir: asyncio.Protocol) -> asyncio.Transport:
        """Lets `heir` read what the client sends from now on, behind a 101; it tells when the connection is lost.

        The connection still counts, and still ends with a drain. Raises MalformedHttpError where the client has not
        waited for the 101: how what it sent was meant is not known.
        """
        if self._connection.behind:
            raise MalformedHttpError("Bytes came behind the request before its connection was switched.")
        transport = self._transport
        assert transport is not None
        transport.set_protocol(heir)
        return transport

    def socket_lost(self, exc: Exception | None) -> None:
        """As its connection would have heard of it, had it not been handed over."""
        self._connection.connection_lost(exc)

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
            await self.park(min(connection.progress_at, at_rate) + body_timeout_s, self._body_late)

    def _body_late(self) -> MalformedHttpError:
        self._connection.server.crowd.count("body_timeout")
        return body_late()

    def stands_still(self) -> None:
        """The client takes nothing of its answer any more: as good as gone."""
        self._connection.server.crowd.count("not_read")
        self.throw(ClientGoneError("The client stopped reading."))

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


def body_late() -> MalformedHttpError:
    """The error of a body that stopped arriving."""
    return MalformedHttpError("The request's body stopped arriving.", status=408, code="body_timeout")
