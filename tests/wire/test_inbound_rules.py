"""Every rule of what the router accepts from a client: bytes in, status out. The same at every split point."""

from collections.abc import Iterator

import pytest

from tests.wire.fakes import Client, Handler

H = b"Host: a\r\n"
ACCEPTED = 200


def get(line: bytes = b"GET / HTTP/1.1", fields: bytes = H) -> bytes:
    return line + b"\r\n" + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + H + fields + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"

# name: bytes, status, code of the refusal. Each is the whole of what a client sends.
RULES: dict[str, tuple[bytes, int, str]] = {
    # Host
    "plain": (get(), 200, ""),
    "host with port": (get(fields=b"Host: a.example:8080\r\n"), 200, ""),
    "host empty port": (get(fields=b"Host: a:\r\n"), 200, ""),
    "host ipv6": (get(fields=b"Host: [::1]:80\r\n"), 200, ""),
    "host empty": (get(fields=b"Host:\r\n"), 200, ""),
    "host with space behind": (get(fields=b"Host: a \t\r\n"), 200, ""),
    "host missing": (get(fields=b""), 400, "malformed_http"),
    "host twice": (get(fields=H + H), 400, "repeated_field"),
    "host twice, different": (get(fields=H + b"hOST: b\r\n"), 400, "repeated_field"),
    "host with path": (get(fields=b"Host: a/b\r\n"), 400, "malformed_http"),
    "host with user": (get(fields=b"Host: u@a\r\n"), 400, "malformed_http"),
    "host list": (get(fields=b"Host: a, b\r\n"), 400, "malformed_http"),
    "host bad port": (get(fields=b"Host: a:http\r\n"), 400, "malformed_http"),
    "host long port": (get(fields=b"Host: a:123456\r\n"), 400, "malformed_http"),
    "host bad ipv6": (get(fields=b"Host: [::1\r\n"), 400, "malformed_http"),
    "host long": (get(fields=b"Host: " + b"a" * 300 + b"\r\n"), 400, "malformed_http"),
    "host not ascii": (get(fields=b"Host: \xc3\xa9\r\n"), 400, "malformed_http"),
    # versions
    "1.0": (get(b"GET / HTTP/1.0"), 200, ""),
    "1.0 without host": (get(b"GET / HTTP/1.0", b""), 200, ""),
    "0.9": (b"GET /\r\n\r\n", 505, "http_version"),
    "2.0": (get(b"GET / HTTP/2.0"), 505, "http_version"),
    "1.2": (get(b"GET / HTTP/1.2"), 400, "malformed_http"),
    "RTSP": (get(b"GET / RTSP/1.1"), 505, "http_version"),
    "RTSP 1.0": (get(b"DESCRIBE / RTSP/1.0"), 505, "http_version"),
    "ICE": (get(b"SOURCE / ICE/1.1"), 505, "http_version"),
    "lower case version": (get(b"GET / http/1.1"), 400, "malformed_http"),
    "h2c preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version"),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed_http"),
    # the request line
    "two spaces": (get(b"GET  / HTTP/1.1"), 400, "malformed_http"),
    "two spaces before version": (get(b"GET /  HTTP/1.1"), 400, "malformed_http"),
    "space behind version": (get(b"GET / HTTP/1.1 "), 400, "malformed_http"),
    "tab in line": (get(b"GET\t/ HTTP/1.1"), 400, "malformed_http"),
    "lower case method": (get(b"get / HTTP/1.1"), 400, "malformed_http"),
    "unknown method": (get(b"BREW / HTTP/1.1"), 400, "malformed_http"),
    "space before method": (get(b" GET / HTTP/1.1"), 400, "malformed_http"),
    "no target": (get(b"GET HTTP/1.1"), 400, "malformed_http"),
    # targets
    "absolute": (get(b"GET http://other.example/v1 HTTP/1.1"), 200, ""),
    "absolute https": (get(b"GET https://other.example:443/v1 HTTP/1.1"), 200, ""),
    "absolute with user": (get(b"GET http://u@h/ HTTP/1.1"), 400, "malformed_http"),
    "absolute without host": (get(b"GET http:///v1 HTTP/1.1"), 400, "malformed_http"),
    "absolute, bad port": (get(b"GET http://h:x/v1 HTTP/1.1"), 400, "malformed_http"),
    "absolute, fragment": (get(b"GET http://h/v1#x HTTP/1.1"), 400, "malformed_http"),
    "other scheme": (get(b"GET ftp://h/v1 HTTP/1.1"), 400, "malformed_http"),
    "fragment": (get(b"GET /a#b HTTP/1.1"), 400, "malformed_http"),
    "relative": (get(b"GET a/b HTTP/1.1"), 400, "malformed_http"),
    "asterisk": (get(b"OPTIONS * HTTP/1.1"), 200, ""),
    "asterisk with GET": (get(b"GET * HTTP/1.1"), 400, "malformed_http"),
    "not ascii": (get(b"GET /\xc3\xa9 HTTP/1.1"), 400, "malformed_http"),
    "control byte in target": (get(b"GET /\x01 HTTP/1.1"), 400, "malformed_http"),
    "longest target": (get(b"GET /" + b"a" * 8191 + b" HTTP/1.1"), 200, ""),
    "too long a target": (get(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), 414, "target_too_long"),
    "endless target": (b"GET /" + b"a" * 70_000, 414, "target_too_long"),
    # fields
    "head too large": (get(fields=H + b"x: " + b"a" * 66_000 + b"\r\n"), 431, "head_too_large"),
    "endless head": (b"GET / HTTP/1.1\r\n" + H + b"x: a\r\n" * 11_000, 431, "too_many_fields"),
    "endless field": (b"GET / HTTP/1.1\r\n" + H + b"x: " + b"a" * 70_000, 431, "head_too_large"),
    "100 fields": (get(fields=H + b"".join(b"x%d: a\r\n" % n for n in range(99))), 200, ""),
    "101 fields": (get(fields=H + b"".join(b"x%d: a\r\n" % n for n in range(100))), 431, "too_many_fields"),
    "one field 101 times": (get(fields=H + b"x: a\r\n" * 100), 431, "too_many_fields"),
    "bare LF behind a field": (get(fields=b"Host: a\nx: b\r\n"), 400, "malformed_http"),
    "bare LF behind the line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "malformed_http"),
    "all LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400, "malformed_http"),
    "head ends with LF LF": (b"GET / HTTP/1.1\r\nHost: a\n\nx: b\r\n\r\n", 400, "malformed_http"),
    "bare CR in a value": (get(fields=H + b"x: a\rb\r\n"), 400, "malformed_http"),
    "CR CR LF": (get(fields=b"Host: a\r\r\n"), 400, "malformed_http"),
    "folded line": (get(fields=H + b"x: a\r\n b\r\n"), 400, "malformed_http"),
    "folded first line": (get(fields=b" x: a\r\n" + H), 400, "malformed_http"),
    "space before colon": (get(fields=b"Host : a\r\n"), 400, "malformed_http"),
    "no colon": (get(fields=H + b"x\r\n"), 400, "malformed_http"),
    "no name": (get(fields=H + b": a\r\n"), 400, "malformed_http"),
    "space in name": (get(fields=H + b"x y: a\r\n"), 400, "malformed_http"),
    "NUL in name": (get(fields=H + b"x\0: a\r\n"), 400, "malformed_http"),
    "NUL in value": (get(fields=H + b"x: a\0b\r\n"), 400, "malformed_http"),
    "DEL in value": (get(fields=H + b"x: a\x7fb\r\n"), 400, "malformed_http"),
    "high bytes in value": (get(fields=H + b"x: \xc3\xa9\r\n"), 200, ""),
    "two keys": (get(fields=H + b"api-key: a\r\napi-key: b\r\n"), 400, "repeated_field"),
    "two authorizations": (get(fields=H + b"Authorization: a\r\n" * 2), 400, "repeated_field"),
    "two content types": (get(fields=H + b"Content-Type: a\r\n" * 2), 400, "repeated_field"),
    "CONNECT": (get(b"CONNECT a:80 HTTP/1.1"), 405, "method_not_allowed"),
    # body by length
    "length": (post(b"Content-Length: 4\r\n", b"body"), 200, ""),
    "length 0": (post(b"Content-Length: 0\r\n"), 200, ""),
    "leading zeros": (post(b"Content-Length: 004\r\n", b"body"), 200, ""),
    "space behind length": (post(b"Content-Length: 4 \r\n", b"body"), 200, ""),
    "plus": (post(b"Content-Length: +4\r\n", b"body"), 400, "malformed_http"),
    "minus": (post(b"Content-Length: -4\r\n", b"body"), 400, "malformed_http"),
    "hex": (post(b"Content-Length: 0x4\r\n", b"body"), 400, "malformed_http"),
    "underscore": (post(b"Content-Length: 1_0\r\n", b"body"), 400, "malformed_http"),
    "list": (post(b"Content-Length: 4, 4\r\n", b"body"), 400, "malformed_http"),
    "twice": (post(b"Content-Length: 4\r\n" * 2, b"body"), 400, "malformed_http"),
    "twice, different": (post(b"Content-Length: 4\r\nContent-Length: 5\r\n", b"body"), 400, "malformed_http"),
    "empty length": (post(b"Content-Length:\r\n", b"body"), 400, "malformed_http"),
    "length overflows": (post(b"Content-Length: 18446744073709551620\r\n", b"body"), 400, "malformed_http"),
    "length without end": (post(b"Content-Length: " + b"9" * 16 + b"\r\n"), 400, "malformed_http"),
    # chunked
    "chunked": (post(CHUNKED, b"4\r\nbody\r\n0\r\n\r\n"), 200, ""),
    "chunked, upper case": (post(b"Transfer-Encoding: CHUNKED\r\n", b"4\r\nbody\r\n0\r\n\r\n"), 200, ""),
    "chunked, space behind": (post(b"Transfer-Encoding: chunked \r\n", b"4\r\nbody\r\n0\r\n\r\n"), 200, ""),
    "chunk extension": (post(CHUNKED, b'4;a=b;c="d"\r\nbody\r\n0;x\r\n\r\n'), 200, ""),
    "trailer": (post(CHUNKED, b"4\r\nbody\r\n0\r\nHost: evil\r\nx: y\r\n\r\n"), 200, ""),
    "chunked and length": (post(CHUNKED + b"Content-Length: 4\r\n", b"0\r\n\r\n"), 400, "malformed_http"),
    "length and chunked": (post(b"Content-Length: 4\r\n" + CHUNKED, b"0\r\n\r\n"), 400, "malformed_http"),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400, "malformed_http"),
    "chunked twice": (post(CHUNKED * 2, b"0\r\n\r\n"), 400, "malformed_http"),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 501, "transfer_coding"),
    "gzip": (post(b"Transfer-Encoding: gzip\r\n"), 400, "malformed_http"),
    "chunked, gzip": (post(b"Transfer-Encoding: chunked, gzip\r\n"), 400, "malformed_http"),
    "identity": (post(b"Transfer-Encoding: identity\r\n"), 400, "malformed_http"),
    "xchunked": (post(b"Transfer-Encoding: xchunked\r\n"), 400, "malformed_http"),
    "parameter": (post(b"Transfer-Encoding: chunked;q=1\r\n"), 400, "malformed_http"),
    "vertical tab": (post(b"Transfer-Encoding: \x0bchunked\r\n"), 400, "malformed_http"),
    "size is no number": (post(CHUNKED, b"x\r\nbody\r\n0\r\n\r\n"), 400, "malformed_http"),
    "size with 0x": (post(CHUNKED, b"0x4\r\nbody\r\n0\r\n\r\n"), 400, "malformed_http"),
    "size with sign": (post(CHUNKED, b"+4\r\nbody\r\n0\r\n\r\n"), 400, "malformed_http"),
    "size overflows": (post(CHUNKED, b"10000000000000004\r\nbody\r\n0\r\n\r\n"), 400, "malformed_http"),
    "space behind size": (post(CHUNKED, b"4 \r\nbody\r\n0\r\n\r\n"), 400, "malformed_http"),
    "LF behind size": (post(CHUNKED, b"4\nbody\r\n0\r\n\r\n"), 400, "malformed_http"),
    "LF in extension": (post(CHUNKED, b"4;a\nb\r\nbody\r\n0\r\n\r\n"), 400, "malformed_http"),
    "chunk longer than its size": (post(CHUNKED, b"3\r\nbody\r\n0\r\n\r\n"), 400, "malformed_http"),
    "LF behind chunk": (post(CHUNKED, b"4\r\nbody\n0\r\n\r\n"), 400, "malformed_http"),
    # expectation
    "expect in 1.0": (b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody", 200, ""),
    "other expectation": (post(b"Expect: 200-ok\r\nContent-Length: 4\r\n", b"body"), 417, "expectation"),
    "expectation list": (post(b"Expect: 100-continue, x\r\nContent-Length: 4\r\n", b"body"), 417, "expectation"),
    "expect twice": (post(b"Expect: 100-continue\r\n" * 2 + b"Content-Length: 4\r\n"), 400, "repeated_field"),
    # empty lines
    "empty lines before": (b"\r\n\r\n" + get(), 200, ""),
    "too many empty lines": (b"\r\n" * 9 + get(), 400, "malformed_http"),
    # upgrades are not made, and their bodies stay bodies
    "upgrade": (get(fields=H + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), 200, ""),
    "upgrade with chunks": (
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + CHUNKED, b"4\r\nbody\r\n0\r\n\r\n"),
        200,
        "",
    ),
}
_LONG = 2000


def runs(data: bytes) -> Iterator[tuple[str, Client]]:
    """The same bytes at every split point and byte by byte; long ones at some."""
    yield "whole", Client().feed(data)
    step = 1 if len(data) <= _LONG else len(data) // 50
    for cut in range(1, len(data), step):
        yield f"cut at {cut}", Client().feed_pieces(data, [cut])
    yield "in small pieces", Client().feed_pieces(data, list(range(1, len(data), step)))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_holds_at_every_split_point(name: str) -> None:
    data, status, code = RULES[name]
    for how, client in runs(data):
        final = [reply for reply in client.answers if reply.status >= 200]
        assert [reply.status for reply in final] == [status], how
        if status != ACCEPTED:
            assert final[0].body.decode() == code, how
            assert final[0].fields[b"connection"] == b"close", how
            assert client.ended, how
        client.check()


@pytest.mark.parametrize("name", [name for name, (_, status, _) in RULES.items() if status != ACCEPTED])
def test_nothing_is_served_behind_a_refusal(name: str) -> None:
    """Whatever stands behind bytes that were refused must never be taken for a request."""
    handler = Handler()
    client = Client(handler).feed(RULES[name][0])
    served = len(handler.seen)
    client.feed(get(b"GET /behind HTTP/1.1"))
    assert len(handler.seen) == served
    assert all(seen.target != b"/behind" for seen in handler.seen)
    client.check()


def test_the_authority_of_an_absolute_target_is_not_part_of_the_path() -> None:
    client = Client().feed(get(b"GET http://other.example/v1/models?x=http://y HTTP/1.1"))
    assert client.handler.seen[0].target == b"/v1/models?x=http://y"
    client.feed(get(b"GET HTTP://other.example HTTP/1.1"))
    assert client.handler.seen[1].target == b"/"


def test_names_are_lower_cased_and_repeated_fields_joined() -> None:
    client = Client().feed(get(fields=H + b"X-A: 1\r\nx-a:2 \r\nX-B:\t3\t \r\nX-C:\r\n"))
    assert client.handler.seen[0].fields == {b"host": b"a", b"x-a": b"1, 2", b"x-b": b"3", b"x-c": b""}


def test_trailers_are_no_fields() -> None:
    data = RULES["trailer"][0]
    for how, client in runs(data):
        assert client.handler.seen[0].fields[b"host"] == b"a", how
        assert b"x" not in client.handler.seen[0].fields, how
        assert client.handler.seen[0].body == b"body", how


def test_a_body_over_its_bound_is_a_413_before_it_is_kept() -> None:
    """A chunked body has no length that could be looked at first: it is counted as it comes."""
    client = Client(body_bytes_max=1000)
    client.feed(post(CHUNKED))
    for _ in range(200):
        client.feed(b"64\r\n" + b"x" * 100 + b"\r\n")
    assert client.statuses == [413]
    assert client.ended
    client.check()


@pytest.mark.parametrize(
    "more",
    [b"1;" + b"x" * 5000 + b"\r\na\r\n", b"1" + b";a=b" * 1000 + b"\r\na\r\n"],
)
def test_chunk_extensions_are_bounded(more: bytes) -> None:
    client = Client().feed(post(CHUNKED))
    sent = 0
    while not client.ended and sent < 64 << 20:
        client.feed(more)
        sent += len(more)
    assert client.statuses == [400]
    assert sent < 2 << 20
    client.check()


def test_trailers_are_bounded() -> None:
    client = Client().feed(post(CHUNKED, b"4\r\nbody\r\n0\r\n"))
    sent = 0
    while not client.ended and sent < 64 << 20:
        client.feed(b"x: " + b"y" * 4000 + b"\r\n")
        sent += 4005
    assert client.statuses == [400]
    assert sent < 2 << 20
    assert client.handler.seen[0].body is None
    client.check()
