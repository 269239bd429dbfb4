"""Frames are read strictly, whatever the reads cut them into, and as a second implementation reads and writes them."""

import asyncio
from itertools import pairwise

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import WebSocketWriter
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from router.transport.websocket_frames import (
    BINARY,
    CLOSE,
    NO_CODE,
    NOT_UTF_8,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    FrameError,
    MessageReader,
    accept_of,
    close_payload,
    frame,
    is_key,
    masked,
    read_close,
)

KEY = b"\x01\x80\xff\x7e"
messages = st.one_of(
    st.tuples(st.just(TEXT), st.text(max_size=300).map(str.encode)),
    st.tuples(st.just(BINARY), st.binary(max_size=70_000)),
    st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)),
)


def reader(*, from_client: bool = True, bytes_max: int = 1 << 20) -> MessageReader:
    return MessageReader(bytes_max, masked=from_client)


def error_of(data: bytes, *, from_client: bool = False) -> int:
    read = reader(from_client=from_client, bytes_max=1000)
    assert read.feed(data) == []
    assert read.error is not None
    assert read.feed(frame(TEXT, b"later")) == []  # nothing behind it is read
    return read.error.code


@given(st.lists(messages, max_size=5), st.booleans(), st.data())
def test_what_is_written_is_read_at_every_cut(
    sent: list[tuple[int, bytes]], from_client: bool, data: st.DataObject
) -> None:
    wire = b"".join(frame(opcode, payload, KEY if from_client else None) for opcode, payload in sent)
    cuts = sorted({0, len(wire), *data.draw(st.lists(st.integers(0, len(wire)), max_size=8))})
    read = reader(from_client=from_client)

    found = [message for begin, end in pairwise(cuts) for message in read.feed(wire[begin:end])]

    assert found == sent
    assert read.error is None
    assert read.held_bytes == 0


@given(st.lists(messages, max_size=5))
def test_another_implementation_reads_what_is_written(sent: list[tuple[int, bytes]]) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(b"".join(frame(opcode, payload, KEY) for opcode, payload in sent))

    assert joined(list(server.events())) == sent


def joined(events: list[Event]) -> list[tuple[int, bytes]]:
    """It tells of a message in pieces."""
    found: list[tuple[int, bytes]] = []
    parts = b""
    for event in events:
        if isinstance(event, TextMessage | BytesMessage):
            parts += event.data.encode() if isinstance(event.data, str) else bytes(event.data)
            if event.message_finished:
                found.append((TEXT if isinstance(event, TextMessage) else BINARY, parts))
                parts = b""
        elif isinstance(event, Ping | Pong):
            found.append((PING if isinstance(event, Ping) else PONG, bytes(event.payload)))
    return found


@given(st.lists(messages, max_size=5), st.booleans())
def test_what_another_implementation_writes_is_read(sent: list[tuple[int, bytes]], from_client: bool) -> None:
    assert asyncio.run(_written_by_aiohttp(sent, from_client)) == sent


async def _written_by_aiohttp(sent: list[tuple[int, bytes]], from_client: bool) -> list[tuple[int, bytes]]:
    class Sink(asyncio.Transport):
        data = b""

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.data += data

        def is_closing(self) -> bool:
            return False

    sink = Sink()
    writer = WebSocketWriter(BaseProtocol(asyncio.get_running_loop()), sink, use_mask=from_client)
    for opcode, payload in sent:
        await writer.send_frame(payload, opcode)
    return reader(from_client=from_client).feed(sink.data)


@given(st.binary(max_size=4000), st.lists(st.integers(0, 4000), max_size=6))
def test_fragments_come_together_with_control_frames_between_them(payload: bytes, at: list[int]) -> None:
    cuts = sorted({0, len(payload), *(cut for cut in at if cut < len(payload))})
    pieces = [payload[begin:end] for begin, end in pairwise(cuts)] or [b""]
    wire = b""
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        one = bytearray(frame(BINARY if number == 0 else 0, piece))
        one[0] = (one[0] & 0x0F) | (0x80 if last else 0)
        wire += bytes(one) + (b"" if last else frame(PING, b"between"))

    found = reader(from_client=False).feed(wire)

    assert [message for message in found if message[0] != PING] == [(BINARY, payload)]
    assert len(found) == len(pieces)


@given(st.binary(max_size=2000))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    for from_client in (True, False):
        read = reader(from_client=from_client, bytes_max=500)
        read.feed(data)
        assert read.error is not None or read.held_bytes <= len(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1\x00", PROTOCOL_ERROR),  # a reserved bit: nobody agreed on compression
        (b"\x83\x00", PROTOCOL_ERROR),  # an opcode that means nothing
        (b"\x8b\x00", PROTOCOL_ERROR),
        (b"\x81\x80\0\0\0\0", PROTOCOL_ERROR),  # masked by a server
        (b"\x09\x00", PROTOCOL_ERROR),  # a ping in fragments
        (b"\x89\x7e\x00\x7e" + bytes(126), PROTOCOL_ERROR),  # a ping that is too long
        (b"\x80\x00", PROTOCOL_ERROR),  # continues nothing
        (b"\x01\x00\x81\x00", PROTOCOL_ERROR),  # a message inside another
        (b"\x01\x00\x01\x00", PROTOCOL_ERROR),
        (b"\x82\x7e\x00\x05hello", PROTOCOL_ERROR),  # a length in too many bytes
        (b"\x82\x7f" + (200).to_bytes(8), PROTOCOL_ERROR),
        (b"\x82\x7f" + (1 << 63).to_bytes(8), PROTOCOL_ERROR),
        (b"\x88\x01\x03", PROTOCOL_ERROR),  # half a code
        (b"\x88\x02" + (1005).to_bytes(2), PROTOCOL_ERROR),  # codes that are never sent
        (b"\x88\x02" + (1006).to_bytes(2), PROTOCOL_ERROR),
        (b"\x88\x02" + (2999).to_bytes(2), PROTOCOL_ERROR),
        (b"\x88\x03" + (1000).to_bytes(2) + b"\xff", NOT_UTF_8),
        (b"\x81\x01\xff", NOT_UTF_8),
        (b"\x82\x7e\x03\xe9", TOO_BIG),  # 1,001 bytes, refused before they come
        (b"\x02\x7e\x03\xe8" + bytes(1000) + b"\x80\x01", TOO_BIG),  # also in fragments
    ],
)
def test_what_no_websocket_may_send_is_an_error(data: bytes, code: int) -> None:
    assert error_of(data) == code


def test_a_client_masks_what_it_sends() -> None:
    assert error_of(frame(TEXT, b"hello"), from_client=True) == PROTOCOL_ERROR


def test_what_came_before_an_error_is_delivered() -> None:
    read = reader(from_client=False)

    assert read.feed(frame(TEXT, b"good") + b"\x83\x00") == [(TEXT, b"good")]
    assert read.error is not None


@given(st.binary(max_size=500), st.binary(min_size=4, max_size=4))
def test_a_mask_taken_twice_is_none(payload: bytes, key: bytes) -> None:
    assert masked(masked(payload, key), key) == payload
    assert masked(payload, key) == bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


@given(st.sampled_from([1000, 1001, 1003, 1011, 3000, 4999]), st.text(max_size=200))
def test_a_close_keeps_its_code_and_as_much_of_its_reason_as_there_is_room(code: int, reason: str) -> None:
    payload = close_payload(code, reason)
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frame(CLOSE, payload))
    [event] = client.events()

    assert isinstance(event, CloseConnection)
    assert event.code == code
    assert reason.startswith(event.reason or "")
    assert read_close(payload) == (code, event.reason or "")
    assert len(payload) <= 125


def test_a_close_without_a_code_stays_one() -> None:
    assert close_payload(NO_CODE) == b""
    assert read_close(b"") == (NO_CODE, "")
    with pytest.raises(FrameError):
        read_close(b"\x03")


def test_the_accept_is_that_of_rfc_6455() -> None:
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert is_key(b"dGhlIHNhbXBsZSBub25jZQ==")
    assert not is_key(b"dGhlIHNhbXBsZSBub25jZQ")
    assert not is_key(b"c2hvcnQ=")
    assert not is_key(b"\xff")
