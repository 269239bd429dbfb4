"""What an upstream's bytes mean, however they were cut: payload, verdict, and whether the connection is kept."""

from dataclasses import dataclass

import pytest

from router.base.errors import PlacementViolationError, StaleConnectionError, UpstreamError
from router.model.plan import Permit
from router.transport.outbox import Outbox
from router.transport.upstream import INTERIM_MAX, UpstreamConnection
from tests.wire.fakes import FakeLoop, FakeTransport, Sink, pieces

PERMIT = Permit("w", frozenset({"azure"}), "v1")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Upstream:
    """One connection over a fake transport, with one request sent."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.lost = 0
        self.connection = UpstreamConnection("azure", float("inf"), self._count, Outbox(self.loop))  # type: ignore[arg-type]
        self.transport = FakeTransport(self.loop, self.connection)
        self.connection.connection_made(self.transport)
        self.sink = self.ask()

    def _count(self, _connection: UpstreamConnection) -> None:
        self.lost += 1

    def ask(self) -> Sink:
        self.sink = Sink()
        self.connection.send(PERMIT, [b"POST / HTTP/1.1\r\n\r\n"], self.sink)
        return self.sink

    def feed(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self.connection.data_received(data)
        self.loop.run()

    def close(self, error: Exception | None = None) -> None:
        self.transport.lose(error)
        self.loop.run()

    @property
    def open(self) -> bool:
        return not self.transport.is_closing()


@dataclass(frozen=True)
class Verdict:
    """What an answer came to. `kept`: the connection may carry another request."""

    status: int
    payload: bytes
    ended: bool
    kept: bool


def verdict(parts: list[bytes], *, closes: bool = True) -> Verdict:
    upstream = Upstream()
    for part in parts:
        upstream.feed(part)
    kept = upstream.open and upstream.sink.ended and not upstream.connection.closed
    if closes:
        upstream.close()
        assert upstream.sink.over, "an answer whose connection is gone must have ended in one way or the other"
    sink = upstream.sink
    head = sink.head
    return Verdict(head.status if head is not None else 0, sink.payload, sink.ended, kept)


# name: the answer's bytes, its verdict. Where it is not whole, the payload is what may have been passed on.
GOOD: dict[str, tuple[bytes, Verdict]] = {
    "length": (OK + b"Content-Length: 4\r\n\r\nbody", Verdict(200, b"body", True, True)),
    "length 0": (OK + b"Content-Length: 0\r\n\r\n", Verdict(200, b"", True, True)),
    "length and close": (
        OK + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody",
        Verdict(200, b"body", True, False),
    ),
    "chunks": (CHUNKED + b"4\r\nbody\r\n3\r\n an\r\n0\r\n\r\n", Verdict(200, b"body an", True, True)),
    "no chunks": (CHUNKED + b"0\r\n\r\n", Verdict(200, b"", True, True)),
    "upper case": (OK + b"transfer-encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", Verdict(200, b"a", True, True)),
    "extensions": (CHUNKED + b'4;a=b;c="d"\r\nbody\r\n0;x\r\n\r\n', Verdict(200, b"body", True, True)),
    "trailers": (CHUNKED + b"4\r\nbody\r\n0\r\nX: y\r\nZ: a\r\n\r\n", Verdict(200, b"body", True, True)),
    "payload of line ends": (
        CHUNKED + b"4\r\n\r\n\r\n\r\n2\r\n\r\n\r\n0\r\n\r\n",
        Verdict(200, b"\r\n" * 3, True, True),
    ),
    "payload like a last chunk": (CHUNKED + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", Verdict(200, b"0\r\n\r\n", True, True)),
    "events": (
        CHUNKED + b"b\r\ndata: {1}\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n",
        Verdict(200, b"data: {1}\n\ndata: 2\n\n", True, True),
    ),
    "to the close": (OK + b"\r\nbody", Verdict(200, b"body", True, False)),
    "1.0": (b"HTTP/1.0 200 OK\r\n\r\nbody", Verdict(200, b"body", True, False)),
    "1.0 with length": (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", Verdict(200, b"body", True, False)),
    "1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody",
        Verdict(200, b"body", True, False),
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Verdict(204, b"", True, True)),
    "304 with length": (b"HTTP/1.1 304 X\r\nETag: a\r\n\r\n", Verdict(304, b"", True, True)),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", Verdict(200, b"a", True, True)),
    "status 999": (b"HTTP/1.1 999 X\r\nContent-Length: 1\r\n\r\na", Verdict(999, b"a", True, True)),
    "100 before": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 4\r\n\r\nbody",
        Verdict(200, b"body", True, True),
    ),
    "103 with fields before": (
        b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 3 + CHUNKED + b"1\r\na\r\n0\r\n\r\n",
        Verdict(200, b"a", True, True),
    ),
    "500": (b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}", Verdict(500, b"{}", True, True)),
}

# name: bytes that must never make a whole answer, and whether a part of the payload may be seen before.
BAD: dict[str, bytes] = {
    "length and chunks": OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "gzip": OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nabc",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n1\r\na\r\n0\r\n\r\n",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "1.0 with chunks": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody!",
    "one length twice": OK + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    "length list": OK + b"Content-Length: 4, 4\r\n\r\nbody",
    "length sign": OK + b"Content-Length: +4\r\n\r\nbody",
    "length negative": OK + b"Content-Length: -1\r\n\r\n",
    "length empty": OK + b"Content-Length:\r\n\r\nbody",
    "length overflows": OK + b"Content-Length: 18446744073709551620\r\n\r\nbody",
    "2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    "1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    "no HTTP": b"<html>",
    "empty line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "RTSP": b"RTSP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status no number": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "folded": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": OK + b"Content-Length : 0\r\n\r\n",
    "bare LF": OK + b"X: a\nContent-Length: 0\r\n\r\n",
    "NUL": OK + b"X: a\0\r\nContent-Length: 0\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "101 plain": b"HTTP/1.1 101 Switching\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "1xx with length": b"HTTP/1.1 103 X\r\nContent-Length: 1\r\n\r\na" + OK + b"Content-Length: 0\r\n\r\n",
    "1xx with chunks": b"HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "too many 1xx": b"HTTP/1.1 100 C\r\n\r\n" * (INTERIM_MAX + 1) + OK + b"Content-Length: 0\r\n\r\n",
    "1xx without end": b"HTTP/1.1 100 C\r\n\r\n" * INTERIM_MAX,
    "size no number": CHUNKED + b"x\r\nbody\r\n0\r\n\r\n",
    "size empty": CHUNKED + b"\r\nbody\r\n0\r\n\r\n",
    "size 0x": CHUNKED + b"0x4\r\nbody\r\n0\r\n\r\n",
    "size sign": CHUNKED + b"-1\r\nbody\r\n0\r\n\r\n",
    "size overflows": CHUNKED + b"10000000000000004\r\nbody\r\n0\r\n\r\n",
    "size then space": CHUNKED + b"4 \r\nbody\r\n0\r\n\r\n",
    "size then LF": CHUNKED + b"4\nbody\r\n0\r\n\r\n",
    "chunk too long": CHUNKED + b"3\r\nbody\r\n0\r\n\r\n",
    "chunk too short": CHUNKED + b"5\r\nbody\r\n0\r\n\r\n",
    "chunk then LF": CHUNKED + b"4\r\nbody\n0\r\n\r\n",
    "bad trailer": CHUNKED + b"4\r\nbody\r\n0\r\nbad trailer\r\n\r\n",
    "length as trailer": CHUNKED + b"4\r\nbody\r\n0\r\nContent-Length: 4\r\n\r\n",
    "last chunk with LF": CHUNKED + b"4\r\nbody\r\n0\n\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_an_answer_is_the_same_at_every_split_point(name: str) -> None:
    data, expected = GOOD[name]
    assert verdict([data]) == expected
    for cut in range(1, len(data)):
        assert verdict(pieces(data, [cut])) == expected, cut
    for first in range(1, len(data), 3):
        for second in range(first + 1, len(data), 5):
            assert verdict(pieces(data, [first, second])) == expected, (first, second)
    assert verdict(pieces(data, list(range(len(data))))) == expected


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_is_refused_at_every_split_point(name: str) -> None:
    data = BAD[name]
    cuts = [[], *([cut] for cut in range(1, len(data))), list(range(len(data)))]
    for each in cuts:
        found = verdict(pieces(data, each))
        assert not found.ended, each
        assert not found.kept, each
        assert found.payload in b"body!" or name == "chunk too short", each


@pytest.mark.parametrize("name", [name for name in GOOD if not name.startswith(("to the close", "1.0"))])
def test_an_answer_cut_at_any_byte_is_not_whole(name: str) -> None:
    data, expected = GOOD[name]
    for end in range(len(data)):
        for parts in ([data[:end]], pieces(data[:end], list(range(end)))):
            found = verdict(parts)
            assert not found.ended, end
            assert expected.payload.startswith(found.payload), end


def test_an_answer_to_the_close_is_not_whole_after_a_reset() -> None:
    upstream = Upstream()
    upstream.feed(GOOD["to the close"][0])
    upstream.close(ConnectionResetError())
    assert isinstance(upstream.sink.error, UpstreamError)


@pytest.mark.parametrize("name", [name for name, (_, found) in GOOD.items() if found.kept])
@pytest.mark.parametrize(
    "extra",
    [
        b"x",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HT",
    ],
)
def test_a_connection_with_bytes_behind_the_answer_is_not_kept(name: str, extra: bytes) -> None:
    """In the same read the answer is refused, since nobody knows where it ended; in a later one it stands."""
    data, expected = GOOD[name]
    together = verdict([data + extra])
    assert not together.kept
    assert not together.ended
    later = verdict([data, extra])
    assert not later.kept
    assert later == Verdict(expected.status, expected.payload, True, False)
    for cut in range(1, len(data)):
        assert not verdict([data[:cut], data[cut:] + extra]).kept, cut


def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    upstream = Upstream()
    upstream.connection._sink = None
    upstream.feed(GOOD["length"][0])
    assert not upstream.open
    assert upstream.lost == 1


def test_a_connection_carries_one_answer_after_the_other() -> None:
    upstream = Upstream()
    for name, (data, expected) in GOOD.items():
        if expected.kept:
            for part in pieces(data, list(range(0, len(data), 3))):
                upstream.feed(part)
            assert upstream.sink.ended, name
            assert upstream.sink.payload == expected.payload, name
            upstream.ask()
    upstream.close()
    # The last one was asked of a connection that had served before and gave not one byte: it may be sent again, free.
    assert isinstance(upstream.sink.error, StaleConnectionError)


def test_fields_of_one_answer_do_not_stay_for_the_next() -> None:
    upstream = Upstream()
    upstream.feed(OK + b"X-A: 1\r\nx-a: 2 \r\nContent-Length: 0\r\n\r\n")
    head = upstream.sink.head
    assert head is not None
    assert head.fields[b"x-a"].split(b",")[0] == b"1"
    upstream.ask()
    upstream.feed(b"HTTP/1.1 103 Early\r\nX-B: 1\r\n\r\n" + CHUNKED + b"0\r\nX-C: 1\r\n\r\n")
    head = upstream.sink.head
    assert head is not None
    assert head.fields == {b"transfer-encoding": b"chunked"}


def test_a_first_connection_that_dies_at_once_is_no_stale_one() -> None:
    upstream = Upstream()
    upstream.close()
    assert isinstance(upstream.sink.error, UpstreamError)
    assert not isinstance(upstream.sink.error, StaleConnectionError)


def test_a_reused_connection_that_gave_a_byte_is_no_stale_one() -> None:
    upstream = Upstream()
    upstream.feed(GOOD["length"][0])
    upstream.ask()
    upstream.feed(b"H")
    upstream.close()
    assert isinstance(upstream.sink.error, UpstreamError)
    assert not isinstance(upstream.sink.error, StaleConnectionError)


@pytest.mark.parametrize(
    "endless",
    [b"x: y\r\n", b"x", b"HTTP/1.1 "],
)
def test_an_endless_head_is_cut(endless: bytes) -> None:
    upstream = Upstream()
    upstream.feed(OK)
    sent = 0
    while upstream.open and sent < 1 << 20:
        upstream.feed(endless * 1000)
        sent += len(endless) * 1000
    assert sent < 128 << 10
    assert upstream.sink.error is not None


def test_too_many_fields_are_refused() -> None:
    assert not verdict([OK + b"x: y\r\n" * 300 + b"Content-Length: 0\r\n\r\n"]).ended


def test_a_send_without_a_permit_writes_nothing() -> None:
    upstream = Upstream()
    before = bytes(upstream.transport.out)
    with pytest.raises(PlacementViolationError):
        upstream.connection.send(Permit("w", frozenset({"aws"}), "v1"), [b"secret"], Sink())
    assert bytes(upstream.transport.out) == before


def test_an_aborted_answer_says_nothing_more() -> None:
    upstream = Upstream()
    upstream.feed(CHUNKED + b"4\r\nbody\r\n")
    upstream.connection.abort()
    assert upstream.transport.aborted
    upstream.loop.run()
    assert not upstream.sink.over
    assert upstream.lost == 1
