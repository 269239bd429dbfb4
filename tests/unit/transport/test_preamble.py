"""PROXY headers and ClientHellos, byte by byte."""

import socket
import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.transport.preamble import (
    HEADER_BYTES_MAX,
    HEADER_START,
    HELLO_START,
    SIGNATURE,
    PreambleError,
    client_of,
    header_length,
    hello_length,
)


def header(command: int = 0x21, family: int = 0x11, body: bytes | None = None) -> bytes:
    if body is None:
        body = socket.inet_aton("192.0.2.7") + socket.inet_aton("10.0.0.1") + struct.pack(">HH", 4711, 443)
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2) + body


V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "::1") + bytes(4)


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        (header(), "192.0.2.7"),
        (header(family=0x21, body=V6), "2001:db8::7"),
        (header(family=0x21, body=V6 + b"\x04\x00\x03abc"), "2001:db8::7"),  # with a TLV behind it
        (header(command=0x20), ""),
        (header(command=0x20, family=0, body=b""), ""),
        (header(family=0, body=b""), ""),  # UNSPEC
        (header(family=0x31, body=bytes(216)), ""),  # a UNIX socket's
        (header(family=0x12), ""),  # UDP's
    ],
)
def test_a_header_tells_its_length_and_the_client(sent: bytes, client: str) -> None:
    assert header_length(sent[:HEADER_START]) == len(sent)
    assert client_of(sent) == client


@pytest.mark.parametrize(
    "start",
    [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n",  # version 1
        b"GET / HTTP/1.1\r\n",
        SIGNATURE + b"\x31\x11\x00\x0c",
        SIGNATURE + b"\x22\x11\x00\x0c",
        SIGNATURE + b"\x21\x11\xff\xff",
        SIGNATURE[:5] + b"x",
    ],
)
def test_what_is_no_such_header_is_refused_as_soon_as_that_is_seen(start: bytes) -> None:
    with pytest.raises(PreambleError):
        header_length(start[:HEADER_START])


def test_a_header_too_short_for_its_family_is_refused() -> None:
    with pytest.raises(PreambleError):
        client_of(header(body=bytes(11)))
    with pytest.raises(PreambleError):
        client_of(header(family=0x21, body=bytes(12)))


@given(st.binary(max_size=64))
def test_no_bytes_do_anything_else(start: bytes) -> None:
    for data in (start, SIGNATURE + start):
        try:
            length = header_length(data[:HEADER_START])
        except PreambleError:
            continue
        assert length == 0 or HEADER_START <= length <= HEADER_BYTES_MAX
        if length:
            try:
                client = client_of((data + bytes(length))[:length])
            except PreambleError:
                continue
            assert client == "" or socket.getaddrinfo(client, None, flags=socket.AI_NUMERICHOST)


def hello(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.create_default_context()
    context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_real_hello_tells_its_length(version: ssl.TLSVersion) -> None:
    sent = hello(version)
    assert hello_length(sent[:HELLO_START]) == len(sent)
    for end in range(1, HELLO_START):
        assert hello_length(sent[:end]) == 0


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTT",
        b"\x16\x02\x00\x01\x00\x01\x00\x00\x10",
        b"\x15\x03\x01\x00\x02\x01\x00\x00\x00",  # an alert
        b"\x16\x03\x01\x00\x20\x02\x00\x00\x1c",  # a ServerHello
        b"\x16\x03\x01\x00\x20\x01\x00\x02\x00",  # its end is in another record
        b"\x16\x03\x01\x50\x00\x01\x00\x4f\xfc",  # a record that is too long
    ],
)
def test_what_is_no_whole_hello_is_refused(start: bytes) -> None:
    with pytest.raises(PreambleError):
        hello_length(start)
