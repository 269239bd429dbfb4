"""The router beside h11 as a server: what it accepts, h11 reads in the same way, and in the same number.

Where the two disagree the router must be the one that refuses: then no parser in front of it or behind it can be
made to see another request than the one that was authenticated.
"""

from dataclasses import dataclass

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.wire.fakes import Client, pieces

LAW = settings(deadline=None, max_examples=500)


def mostly(right: list[bytes], *odd: bytes) -> st.SearchStrategy[bytes]:
    """The odd ones in one draw of eight."""
    return st.integers(0, 7).flatmap(lambda draw: st.sampled_from(right if draw else odd))


METHODS = mostly([b"GET", b"POST", b"PUT"], b"OPTIONS", b"CONNECT", b"get", b"PRI")
TARGETS = mostly([b"/", b"/v1/chat/completions?x=y", b"//x"], b"*", b"http://h/p", b"/a#b", b"/%00", b"a", b"/\xff")
VERSIONS = mostly([b"HTTP/1.1"], b"HTTP/1.0", b"HTTP/2.0", b"RTSP/1.1", b"HTTP/1.1 ", b"http/1.1")
HOSTS = mostly([b"Host: a\r\n", b"host:a \r\n"], b"", b"Host: a\r\nHost: b\r\n", b"Host : a\r\n", b"Host: a b\r\n")
ODD = mostly(
    [
        b"X: y\r\n",
        b"X:\r\n",
        b"Trailer: x\r\n",
        b"Dontent-Length: 3\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
    ],
    b"Connection: close\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: +5\r\n",
    b"content-length:5 \r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Transfer-Encoding:\tchunked \r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"X : y\r\n",
    b"X: a\r\n b\r\n",
    b"X: a\nY: b\r\n",
    b"X: a\rb\r\n",
    b"X: \0\r\n",
)
INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
PAYLOADS = st.sampled_from([b"", b"hello", INNER, b"0\r\n\r\n", b"\r\n\r\n", b"x" * 70])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """The field that frames a body, the empty line, and the body; mostly a right one."""
    payload = draw(PAYLOADS)
    kind = draw(st.sampled_from(["none", "length", "length", "length", "chunked", "chunked", "chunked", "wrong"]))
    if kind == "none":
        return b"\r\n"
    if kind == "length":
        return b"Content-Length: %d\r\n\r\n%b" % (len(payload), payload)
    if kind == "wrong":
        return draw(st.sampled_from([b"Content-Length: 3\r\n", b"Content-Length: 90\r\n", b""])) + b"\r\n" + payload
    chunks, at = b"", 0
    while at < len(payload):
        size = draw(st.integers(1, 20))
        piece = payload[at : at + size]
        chunks += b"%x%b\r\n%b\r\n" % (len(piece), draw(st.sampled_from([b"", b"", b";a=b", b' ;a="\\""'])), piece)
        at += size
    last = draw(
        st.sampled_from(
            [b"0\r\n\r\n"] * 5 + [b"0\r\nX: y\r\n\r\n", b"00\r\n\r\n", b"0\r\nHost: evil\r\n\r\n", b"0\n\n"]
        )
    )
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + last


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    line = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    odd = b"".join(draw(st.lists(ODD, max_size=2)))
    return line + b"\r\n" + draw(HOSTS) + odd + draw(bodies())


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Requests one after the other; in some, bytes were changed, taken away or put in."""
    found = draw(st.lists(requests(), min_size=1, max_size=3))
    at = draw(st.integers(0, len(found) - 1))
    data = found[at]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(data)))
        junk = draw(st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b"0", b":", b"\x0b", b"\xa0"]))
        data = data[:place] + junk + data[place + draw(st.integers(0, 1)) :]
    found[at] = data
    return found


@dataclass(frozen=True)
class Request:
    method: bytes
    target: bytes
    body: bytes


def ours(reads: list[bytes]) -> tuple[list[Request], Client]:
    """The requests that were served: those whose bodies became whole."""
    client = Client()
    for data in reads:
        client.feed(data)
    return [
        Request(each.method, each.target, each.body) for each in client.handler.seen if each.body is not None
    ], client


def theirs(data: bytes) -> list[Request]:
    """As h11 reads the bytes, up to where it refuses them; empty lines between requests are nothing to either."""
    found: list[Request] = []
    kept = True
    while kept and data:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(data)
        body = b""
        try:
            while not isinstance(event := server.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return found
        except h11.RemoteProtocolError:
            return found
        if head.method == b"CONNECT":
            return found
        found.append(Request(bytes(head.method), bytes(head.target), body))
        server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        server.send(h11.EndOfMessage())
        if head.http_version == b"1.0":  # h11 knows no keep-alive there
            kept = b"keep-alive" in dict(head.headers).get(b"connection", b"").lower()
        else:
            kept = h11.MUST_CLOSE not in (server.our_state, server.their_state)
        data = server.trailing_data[0].lstrip(b"\r\n")
    return found


def path_of(target: bytes) -> bytes:
    """We take the authority off an absolute target; h11 leaves it on."""
    if target.lower().startswith((b"http://", b"https://")):
        return b"/" + target.split(b"://", 1)[1].partition(b"/")[2]
    return target


def without_empty_lines(data: bytes) -> bytes:
    return data.lstrip(b"\r\n")


@LAW
@given(streams(), st.lists(st.integers(1, 400), max_size=5))
@example(
    [b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 31\r\n\r\n" + INNER], []
)
@example([b"POST / HTTP/1.1\r\nHost: a\r\nDontent-Length: 3\r\nContent-Length: 5\r\n\r\nhello"] * 2, [])
@example([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] * 3, [])
def test_what_the_router_serves_h11_reads_in_the_same_way(found: list[bytes], cuts: list[int]) -> None:
    data = without_empty_lines(b"".join(found))
    for reads in (found, [data], pieces(data, cuts), pieces(data, list(range(len(data))))):
        served, client = ours(reads)
        expected = theirs(data)
        assert len(served) <= len(expected)
        for mine, other in zip(served, expected, strict=False):
            assert mine.method == other.method
            assert mine.target == path_of(other.target)
            assert mine.body == other.body
        client.check()


@LAW
@given(requests(), st.lists(st.integers(1, 400), max_size=5))
def test_a_single_request_is_read_in_the_same_way_at_every_cut(data: bytes, cuts: list[int]) -> None:
    """Cuts decide about no request and no status; only about whether a pipelined one behind it is still served."""
    served, client = ours([data])
    again, other = ours(pieces(data, cuts))
    assert again[:1] == served[:1]
    final = [status for status in client.statuses if status >= 200]
    assert [status for status in other.statuses if status >= 200][:1] == final[:1]
    other.check()
