"""Laws of reading answers: the same at every cut, and never more lenient about where one ends than another parser."""

import re
from dataclasses import dataclass, replace

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.wire.fakes import pieces
from tests.wire.test_upstream_answers import Upstream

LAW = settings(deadline=None, max_examples=400)

NAMES = st.sampled_from([b"content-type", b"X", b"x-a", b"Connection", b"Content-Length", b"Transfer-Encoding", b"X "])
VALUES = st.sampled_from(
    [b"0", b"5", b"05", b"+5", b"5, 5", b"Chunked", b"gzip", b"close", b"keep-alive", b"", b" a ", b"\0"]
)
FIELDS = st.lists(st.tuples(NAMES, VALUES).map(lambda pair: b"%b: %b\r\n" % pair), max_size=2).map(b"".join)
LINES = st.sampled_from(
    [
        *[b"HTTP/1.1 200 OK\r\n"] * 8,
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 204 X\r\n",
        b"HTTP/1.1 304 X\r\n",
        b"HTTP/1.1 100 C\r\n",
        b"HTTP/1.1 103 C\r\n\r\nHTTP/1.1 500 \r\n",
        b"HTTP/1.1 200\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
    ]
)
CHUNKS = st.lists(
    st.sampled_from([b"5\r\nhello\r\n", b"1\r\na\r\n", b"1;x=y\r\nb\r\n", b"2\r\n\r\n\r\n"]), max_size=3
).map(b"".join)
ENDS = st.sampled_from(
    [b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"00\r\n\r\n", b"0;a\r\n\r\n", b"0\r\n", b"0\n\n", b""]
)
JUNK = st.sampled_from(
    [*[b""] * 6, b"\r\n", b"a", b"hello", b"HTTP/1.1 200 OK\r\n\r\n", b"\n", b"0", b"-1\r\n", b"g\r\n"]
)
FRAMED = st.one_of(
    st.just(b"Content-Length: 5\r\n\r\nhello"),
    st.just(b"Content-Length: 0\r\n\r\n"),
    st.just(b"\r\nhello"),
    st.tuples(CHUNKS, ENDS).map(lambda both: b"Transfer-Encoding: chunked\r\n\r\n" + both[0] + both[1]),
)
ANSWERS = st.tuples(LINES, FIELDS, FRAMED, JUNK).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An answer with a byte or two changed, taken away or put in."""
    data = draw(ANSWERS)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = (
            data[:at]
            + draw(st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b"0", b":"]))
            + data[at + draw(st.integers(0, 1)) :]
        )
    return data


_REASON = re.compile(rb"(HTTP/1\.\d \d{3} )[^\r\n]+")  # says nothing, is not passed on, and may hold any byte here


def plain(data: bytes) -> bytes:
    return _REASON.sub(rb"\1OK", data)


@dataclass(frozen=True)
class Outcome:
    """`whole`: proved by framing, before or at the connection's end."""

    status: int
    payload: bytes
    whole: bool


def ours(data: bytes, cuts: list[int]) -> Outcome:
    upstream = Upstream()
    for piece in pieces(data, cuts):
        upstream.feed(piece)
    upstream.close()
    sink = upstream.sink
    return Outcome(sink.head.status if sink.head is not None else 0, sink.payload, sink.ended)


def theirs(data: bytes) -> Outcome | None:
    """As h11 reads one answer and then the connection's end; None where it refuses it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
    client.send(h11.EndOfMessage())
    client.receive_data(plain(data))
    client.receive_data(b"")
    status, payload = 0, b""
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                payload += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return Outcome(status, payload, True)
            elif not isinstance(event, h11.InformationalResponse):
                return Outcome(status, payload, False)
    except h11.RemoteProtocolError:
        return None


@LAW
@given(mutated(), st.lists(st.integers(1, 200), max_size=6))
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", list(range(60)))
def test_the_verdict_does_not_depend_on_the_cuts(data: bytes, cuts: list[int]) -> None:
    """What was cut may be refused later, with more of the payload seen; whole is whole, and with the same payload.

    The exception is what stands behind an end: in the same read the answer is refused, in a later one it stands.
    """
    together, apart = ours(data, []), ours(data, cuts)
    if together.whole:
        assert apart == together
    elif apart.whole:
        shorter = [end for end in range(len(data)) if ours(data[:end], []).whole]
        assert shorter, "whole in pieces, and in no one piece"
        assert apart.payload in {ours(data[:end], []).payload for end in shorter}
    assert ours(data, list(range(len(data)))).whole >= together.whole


@LAW
@given(mutated(), st.lists(st.integers(1, 200), max_size=4))
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [])
@example(b"HTTP/1.1 204 X\r\n\r\nhello", [])
def test_what_is_whole_here_is_whole_to_h11_with_the_same_payload(data: bytes, cuts: list[int]) -> None:
    found = ours(data, cuts)
    if found.whole:
        assert theirs(data) == replace(found, payload=plain(found.payload))
