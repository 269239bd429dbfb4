"""The upstream's end of the wire: one connection, kept alive over many answers, and bound to one cloud for its life.

Feed first, write after: a read goes to llhttp whole, and only what llhttp accepted is passed on. llhttp says *that* a
message ended in a read and never *where*, so the end is proved: by counting for a Content-Length, and for a chunked
answer by the run of exactly four CR and LF bytes that the read ends with.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, cast

import httptools

from router.base.errors import (
    ConnectError,
    PlacementViolationError,
    RouterError,
    StaleConnectionError,
    UpstreamError,
)
from router.model.plan import Permit
from router.transport.heads import HEAD_BYTES_MAX
from router.transport.outbox import Outbox
from router.transport.sockets import set_keepalive, watch

INTERIM_MAX: Final = 8  # 1xx answers before the final one
FIELDS_MAX: Final = 200
TAIL_BYTES_MAX: Final = 1024  # a read this short is kept whole instead of its last five bytes: no slice a chunk
WRITE_BUFFER_HIGH: Final = 64 << 10

_VERSIONS: Final = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_BODILESS: Final = frozenset({204, 304})


class AnswerHead:
    """What an upstream's head says. `fields`: names in lower case; repeated ones joined by a comma."""

    __slots__ = ("chunked", "fields", "keep_alive", "length", "status")

    def __init__(
        self, status: int, fields: dict[bytes, bytes], length: int | None, chunked: bool, keep_alive: bool
    ) -> None:
        """`length`: bytes, from Content-Length."""
        self.status = status
        self.fields = fields
        self.length = length
        self.chunked = chunked
        self.keep_alive = keep_alive


class AnswerSink(Protocol):
    """Takes one answer as it arrives. Each call is made after llhttp accepted the whole read."""

    flowing: bool  # nobody waits for the next read: `read_finished` matters at the end only

    def head_received(self, head: AnswerHead) -> None: ...

    def body_received(self, data: bytes, payload: bytes, whole_chunks: bool, /) -> None:
        """`data`: the read as it came; `payload`: what is in it; `whole_chunks`: plain chunks from edge to edge."""
        ...

    def whole_received(self, head: AnswerHead, payload: bytes) -> None:
        """Head, body and end in one read; in place of the calls above and below."""
        ...

    def answer_ended(self) -> None:
        """Well framed and whole. The connection is no longer this sink's."""
        ...

    def answer_broken(self, error: RouterError) -> None:
        """Nothing more will come. The connection is gone."""
        ...

    def read_finished(self) -> None:
        """All that one read brought has been handed over."""
        ...


class SwitchSink(AnswerSink, Protocol):
    """Takes the answer to a handshake, which may be that the connection leaves HTTP."""

    def switched(self, head: AnswerHead, rest: bytes) -> None:
        """It is a 101. `rest`: what came behind it. The connection waits for `hand_over`."""
        ...


def require_permit(permit: Permit, cloud: str) -> None:
    """The last of the three barriers: every dial and every send passes here. Raises PlacementViolationError."""
    if cloud not in permit.clouds:
        raise PlacementViolationError("The request was about to leave the clouds that it may use, and was stopped.")


class UpstreamConnection(asyncio.Protocol):
    """One connection to one deployment's endpoint. `send` is the only way to write to it."""

    __slots__ = (
        "_at_edge",
        "_begun",
        "_chunked",
        "_edges",
        "_head",
        "_head_buffer",
        "_interim",
        "_left",
        "_names",
        "_names_as_sent",
        "_on_lost",
        "_outbox",
        "_parser",
        "_payload",
        "_poll",
        "_seen",
        "_sink",
        "_switch",
        "_tail",
        "_transport",
        "_whole",
        "answers",
        "cloud",
        "connect_s",
        "expires_at",
        "idle_since",
        "received",
        "tls",
        "tls_s",
    )

    def __init__(
        self, cloud: str, expires_at: float, on_lost: Callable[["UpstreamConnection"], None], outbox: Outbox
    ) -> None:
        self.cloud = cloud
        self._outbox = outbox
        self.expires_at = expires_at  # monotonic seconds: not reused after it
        self.answers = 0  # that ended well on this connection
        self.idle_since = 0.0
        self.tls: ssl.SSLObject | None = None  # set by who dialled, as is what that took:
        self.connect_s = self.tls_s = 0.0
        self.received = False  # at least one byte of the current answer
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._sink: AnswerSink | None = None
        self._switch: SwitchSink | None = None  # what asked it to leave HTTP
        self._poll: Callable[[float], object] | None = None
        self._head: AnswerHead | None = None
        self._head_buffer = b""
        self._seen: dict[bytes, bytes] = {}  # fields as llhttp tells them: the head's, later the trailers'
        self._payload: list[bytes] = []
        self._edges: list[bool] = []  # not empty: the last thing llhttp saw was a chunk's end
        self._begun: list[bool] = []  # as many as messages that llhttp saw begin, since the head's first byte
        self._whole: list[bool] = []  # and end
        self._names_as_sent: tuple[bytes, ...] = ()  # of the last head's fields ...
        self._names: tuple[bytes, ...] = ()  # ... and in lower case: an upstream's heads are much alike
        self._interim = 0
        self._left: int | None = None
        self._tail = b""
        self._parser: httptools.HttpResponseParser  # from `connection_made` to `connection_lost`: it knows this object

    # -- what an attempt asks

    def usable(self) -> bool:
        """Open, and the peer has neither closed it nor sent anything unasked: one poll, no read."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._poll is None:
            return False
        return not self._poll(0)

    @property
    def closed(self) -> bool:
        return self._transport is None

    def send(self, permit: Permit, parts: Sequence[bytes | memoryview], sink: AnswerSink) -> None:
        """Writes one request, whose answer goes to `sink`.

        Raises PlacementViolationError or ConnectError, and then no byte was written.
        """
        require_permit(permit, self.cloud)
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectError("The connection closed before the request was sent.")
        self._sink = sink
        self._head = None
        self.received = self._chunked = False
        self._interim = 0
        if len(parts) == 1:
            self._outbox.write(transport, parts[0])
        else:
            transport.writelines(parts)  # a large body has no company to wait for

    def upgrade(self, permit: Permit, head: bytes, sink: SwitchSink) -> None:
        """Writes a handshake that asks to leave HTTP. Raises as `send`. No other request goes over this connection."""
        self._switch = sink
        self.send(permit, (head,), sink)

    def hand_over(self, heir: asyncio.Protocol) -> asyncio.Transport:
        """Lets `heir` read and write from now on; it tells when the connection is lost. Only after a switch."""
        transport = self._transport
        assert transport is not None
        assert self._switch is not None
        self._sink = self._switch = None
        transport.set_protocol(heir)
        return transport

    def pause(self) -> None:
        """Stops reading: the client does not keep up."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Ends the connection at once; the sink hears nothing more. (`close` waits 30 s for a peer silent in TLS.)"""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # -- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, and have all that is used here.
        self._transport = transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(
            _Callbacks(self._seen, self._payload, self._edges, self._begun, self._whole)
        )
        transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH)
        sock = transport.get_extra_info("socket")
        set_keepalive(sock)
        self._poll = watch(sock)

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:
            self.abort()  # bytes that nobody asked for
            return
        self.received = True
        try:
            if self._chunked:
                self._take_chunks(sink, data)
                if sink.flowing and self._sink is not None:
                    return
            elif self._head is None:
                self._take_head(sink, data)
            else:
                self._take_body(sink, data)
        except _BadAnswerError as bad:
            self._break(
                UpstreamError(f"The deployment's answer is not valid HTTP/1.1: {bad}.", code="upstream_invalid")
            )
        sink.read_finished()

    def eof_received(self) -> None:
        """The transport closes itself, and `connection_lost` says what that means."""

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        del self._parser  # or the two would stay until the collector comes
        sink, self._sink = self._sink, None
        self._on_lost(self)
        if sink is None:
            return
        if self._head is not None and self._left is None and not self._head.chunked and _exc is None:
            sink.answer_ended()  # neither length nor chunks: the body ran to the end of the connection
        elif not self.received and self.answers:
            sink.answer_broken(StaleConnectionError("The deployment had closed the idle connection."))
        else:
            sink.answer_broken(UpstreamError("The deployment closed the connection before its answer was whole."))
        sink.read_finished()

    # -- one answer

    def _take_head(self, sink: AnswerSink, data: bytes) -> None:
        if self._head_buffer:
            data = self._head_buffer + data
            self._head_buffer = b""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if not data.startswith(_VERSIONS) and not any(version.startswith(data) for version in _VERSIONS):
                raise _BadAnswerError("it does not begin with HTTP/1.1 or HTTP/1.0")
            if end == 3:
                if len(data) > HEAD_BYTES_MAX:
                    raise _BadAnswerError("its head is too long")
                self._head_buffer = data
                return
            head = self._parse_head(data[:end])
            if head.status >= 200:
                break
            data = data[end:]
            if head.status == 101 and self._switch is not None and not head.chunked and head.length is None:
                self._switch.switched(head, data)
                return
            self._interim += 1
            if self._interim > INTERIM_MAX or head.status == 101 or head.chunked or head.length is not None:
                raise _BadAnswerError("an interim answer that nobody asked for")
            if not data:
                return
        self._head = head
        if head.length is not None and 0 < head.length == len(data) - end:
            self._take_whole(sink, head, data[end:])
            return
        bodiless = self._left == 0 or head.status in _BODILESS
        if bodiless and len(data) > end:
            raise _BadAnswerError("bytes after its end")  # before its head, which alone would be a whole answer
        sink.head_received(head)
        if bodiless:
            self._end(sink)
        elif len(data) > end:
            self._take_body(sink, data[end:])

    def _take_whole(self, sink: AnswerSink, head: AnswerHead, body: bytes) -> None:
        """Usual: the rest of the read is the body, by its Content-Length."""
        self._feed(body)
        self._payload.clear()
        self._leave(head)
        sink.whole_received(head, body)

    def _parse_head(self, raw: bytes) -> AnswerHead:
        """Reads one head, which `raw` is to the last byte. Raises _BadAnswerError."""
        lines = raw.count(b"\r\n")
        if len(raw) > HEAD_BYTES_MAX or lines > FIELDS_MAX + 2:
            raise _BadAnswerError("its head is too long")
        seen = self._seen
        seen.clear()
        self._begun.clear()
        self._whole.clear()
        self._tail = b""
        self._at_edge = True  # the first size line follows the head
        parser = self._parser
        try:
            parser.feed_data(raw)
        except httptools.HttpParserError as error:
            raise _BadAnswerError(str(error)) from None
        except httptools.HttpParserUpgrade:
            if self._switch is None:
                raise _BadAnswerError("an upgrade that nobody asked for") from None
        if len(self._begun) != 1:
            raise _BadAnswerError("a second answer that nobody asked for")
        names = tuple(seen)
        if names != self._names_as_sent:
            self._names_as_sent, self._names = names, tuple(map(bytes.lower, names))
        fields = dict(zip(self._names, seen.values()))  # noqa: B905 - as many as names, and the check is dear
        if len(fields) + 2 != lines:  # one stands twice, whatever its case
            fields = _joined_fields(raw)
        status = parser.get_status_code()
        keep_alive = raw[7] != 48  # 48: a zero, of HTTP/1.0
        length = self._left = int(fields[b"content-length"]) if b"content-length" in fields else None
        chunked = self._chunked = b"transfer-encoding" in fields
        if chunked:
            if fields[b"transfer-encoding"].lower() != b"chunked" or length is not None or not keep_alive:
                raise _BadAnswerError("an unknown Transfer-Encoding")
        elif length is None:
            keep_alive = keep_alive and status in _BODILESS
        if b"connection" in fields and b"close" in fields[b"connection"].lower():
            keep_alive = False
        return AnswerHead(status, fields, length, chunked, keep_alive)

    def _take_body(self, sink: AnswerSink, data: bytes) -> None:
        """A read, or the rest of one, of a body that has a length or runs to the end of the connection."""
        if self._chunked:
            self._take_chunks(sink, data)
            return
        payload, left = self._payload, self._left
        if left is not None and len(data) > left:
            raise _BadAnswerError("more bytes than its Content-Length")
        self._feed(data)
        content = payload[0] if len(payload) == 1 else b"".join(payload)
        payload.clear()
        sink.body_received(data, content, False)
        if left is not None:
            self._left = left - len(data)
            if not self._left:
                self._end(sink)

    def _take_chunks(self, sink: AnswerSink, data: bytes) -> None:
        """A read of a chunked body: on the way of every chunk of every stream."""
        payload, at_edge = self._payload, self._at_edge
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            payload.clear()
            raise _BadAnswerError(str(error)) from None
        if len(payload) == 1:
            content = payload[0]
            length = len(content)
            framed = _FRAMED[length] if length < 2048 else _framed(length)
        else:
            content = b"".join(payload)
            framed = sum(map(_framed, map(len, payload)))
        # A chunk's end is no edge where the begin of the next size line came with it.
        edge = self._at_edge = bool(self._edges) and data.endswith(b"\n")
        payload.clear()
        length = len(data)
        self._tail = data if 5 <= length <= TAIL_BYTES_MAX else (self._tail[-5:] + data)[-5:]
        if not self._whole:
            sink.body_received(data, content, at_edge and edge and length == framed)
            return
        if len(self._begun) != 1:
            raise _BadAnswerError("bytes after its end, which begin a second answer")
        tail = self._tail[-5:]
        if not tail.endswith(b"\r\n\r\n") or tail[0] in b"\r\n":
            # A run of CR and LF that is not exactly four bytes long: something stands behind the last chunk.
            raise _BadAnswerError("bytes after its end")
        if content:
            sink.body_received(data, content, False)
        self._end(sink)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._payload.clear()
            raise _BadAnswerError(str(error)) from None
        if len(self._begun) != 1:
            self._payload.clear()
            raise _BadAnswerError("bytes after its end, which begin a second answer")

    def _end(self, sink: AnswerSink) -> None:
        assert self._head is not None
        self._leave(self._head)
        sink.answer_ended()

    def _leave(self, head: AnswerHead) -> None:
        """The answer is whole: the connection is free for another, or is ended."""
        self.answers += 1
        self._sink = None
        self._edges.clear()
        self._chunked = False
        transport = self._transport
        if transport is None:
            return
        # An early answer leaves bytes of the request behind, which would stand before the next one.
        if not (head.keep_alive and self._whole) or transport.get_write_buffer_size():
            transport.abort()
            self._transport = None

    def _break(self, error: RouterError) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.answer_broken(error)


class _Callbacks:
    """What llhttp calls: methods of built-in types alone, so no Python frame.

    They only note what they are told, and whoever fed the parser looks at it before a byte goes on.
    """

    __slots__ = (
        "on_body",
        "on_chunk_complete",
        "on_chunk_header",
        "on_header",
        "on_message_begin",
        "on_message_complete",
    )

    def __init__(
        self,
        fields: dict[bytes, bytes],
        payload: list[bytes],
        edges: list[bool],
        begun: list[bool],
        whole: list[bool],
    ) -> None:
        self.on_header = fields.__setitem__
        self.on_message_begin = partial(begun.append, True)
        self.on_message_complete = partial(whole.append, True)
        self.on_body = payload.append
        self.on_chunk_header = edges.clear
        self.on_chunk_complete = partial(edges.append, True)


def _joined_fields(head: bytes) -> dict[bytes, bytes]:
    """The fields of a head that names one twice, joined by a comma; llhttp has checked its lines."""
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        fields[name] = value if name not in fields else fields[name] + b", " + value
    return fields


def _framed(length: int) -> int:
    """The length of a chunk of so many bytes as we would frame it: a longer one says more than its size, to nobody."""
    return length + ((length.bit_length() + 3) >> 2) + 4


_FRAMED: Final = tuple(map(_framed, range(2048)))  # of most events


class _BadAnswerError(Exception):
    """The answer cannot be trusted; the text says why."""
