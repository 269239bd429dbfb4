"""WebSocket messages as bytes (RFC 6455): frames are read strictly and written whole.

No extension is ever agreed, so a reserved bit is an error. Fragments are put together, up to a bound: whoever relays a
message has to have read it. Knows nothing of transports and of time.
"""

import base64
import binascii
import hashlib
import re
import struct
from typing import Final

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
CONTROL_BYTES_MAX: Final = 125

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
NO_CODE: Final = 1005  # stands for a close without a code; never written
NOT_UTF_8: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
RESTART: Final = 1012
TRY_LATER: Final = 1013

_CONTINUATION: Final = 0
_FIN, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_LENGTH_16, _LENGTH_64 = 126, 127
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class FrameError(Exception):
    """What an end sent is no WebSocket that we speak. `code`: of the close that says so."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class MessageReader:
    """Makes messages of what one end sends. What follows an error is not read."""

    __slots__ = ("_buffer", "_bytes_max", "_masked", "_opcode", "_parts", "error")

    def __init__(self, bytes_max: int, *, masked: bool) -> None:
        """`masked`: it must be, as all that clients send; else it must not."""
        self._bytes_max, self._masked = bytes_max, masked
        self._buffer = bytearray()
        self._parts = bytearray()  # of a message whose last fragment has not come
        self._opcode = 0  # of it; 0: there is none
        self.error: FrameError | None = None

    @property
    def held_bytes(self) -> int:
        """What has come of messages that are not whole."""
        return len(self._buffer) + len(self._parts)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Returns opcode and payload of each message, and of each control frame, that `data` ends."""
        if self.error is not None:
            return []
        messages: list[tuple[int, bytes]] = []
        buffer, at = self._buffer, 0
        buffer += data
        try:
            while end := self._read_frame(at, messages):
                at = end
        except FrameError as error:
            self.error = error
            self._buffer, self._parts = bytearray(), bytearray()
        else:
            del buffer[:at]
        return messages

    def _read_frame(self, at: int, messages: list[tuple[int, bytes]]) -> int:
        """Reads the frame that begins there. Returns where it ends, 0 where that has not come. Raises FrameError."""
        buffer = self._buffer
        if len(buffer) - at < 2:
            return 0
        first, second = buffer[at], buffer[at + 1]
        opcode = first & 0x0F
        self._check(first, second, opcode)
        length, start = self._length(second & 0x7F, at + 2)
        if start < 0:
            return 0
        if opcode < CLOSE and len(self._parts) + length > self._bytes_max:
            raise FrameError(TOO_BIG, f"The message is longer than {self._bytes_max} bytes.")
        begin = start + 4 if self._masked else start
        end = begin + length
        if len(buffer) < end:
            return 0
        payload = bytes(buffer[begin:end])
        if self._masked:
            payload = masked(payload, bytes(buffer[start:begin]))
        self._take(first & _FIN, opcode, payload, messages)
        return end

    def _check(self, first: int, second: int, opcode: int) -> None:
        if first & _RESERVED:
            raise FrameError(PROTOCOL_ERROR, "A reserved bit is set: no extension was agreed.")
        if bool(second & _MASKED) is not self._masked:
            raise FrameError(PROTOCOL_ERROR, "What clients send is masked, and nothing else is.")
        if opcode >= CLOSE:
            if opcode > PONG or not first & _FIN or second & 0x7F > CONTROL_BYTES_MAX:
                raise FrameError(PROTOCOL_ERROR, "A control frame is not well-formed.")
        elif opcode > BINARY or (opcode == _CONTINUATION) is not bool(self._opcode):
            raise FrameError(PROTOCOL_ERROR, "A frame continues no message, or begins one inside another.")

    def _length(self, short: int, at: int) -> tuple[int, int]:
        """Returns the payload's length and where its mask or it begins; -1 for the latter where that has not come."""
        if short < _LENGTH_16:
            return short, at
        size, least = (2, _LENGTH_16) if short == _LENGTH_16 else (8, 1 << 16)
        if len(self._buffer) < at + size:
            return 0, -1
        length = int.from_bytes(self._buffer[at : at + size])
        if length < least or length >= 1 << 63:
            raise FrameError(PROTOCOL_ERROR, "A frame's length is not written in the shortest way.")
        return length, at + size

    def _take(self, last: int, opcode: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        if opcode >= CLOSE:
            if opcode == CLOSE:
                read_close(payload)
            messages.append((opcode, payload))
            return
        if not last:
            self._opcode = self._opcode or opcode
            self._parts += payload
            return
        if self._opcode:
            opcode, payload = self._opcode, bytes(self._parts) + payload
            self._opcode = 0
            self._parts = bytearray()
        if opcode == TEXT and not payload.isascii() and not _is_utf_8(payload):
            raise FrameError(NOT_UTF_8, "A text is not UTF-8.")
        messages.append((opcode, payload))


def frame(opcode: int, payload: bytes, key: bytes | None = None) -> bytes:
    """Writes one whole message. `key`: four bytes that mask it, as a client has to."""
    length, bit = len(payload), 0 if key is None else _MASKED
    if length < _LENGTH_16:
        head = bytes((_FIN | opcode, bit | length))
    elif length < 1 << 16:
        head = struct.pack(">BBH", _FIN | opcode, bit | _LENGTH_16, length)
    else:
        head = struct.pack(">BBQ", _FIN | opcode, bit | _LENGTH_64, length)
    return head + payload if key is None else b"".join((head, key, masked(payload, key)))


def masked(payload: bytes, key: bytes) -> bytes:
    """Adds the mask, or takes it off. As one number: byte by byte it would take a hundred times as long."""
    length = len(payload)
    stream = (key * ((length >> 2) + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(stream, "little")).to_bytes(length, "little")


def close_payload(code: int, reason: str = "") -> bytes:
    """What a close frame says. A reason that is too long is cut between its characters."""
    if code == NO_CODE:
        return b""
    text = reason.encode("utf-8", "replace")[: CONTROL_BYTES_MAX - 2]
    return code.to_bytes(2) + text.decode("utf-8", "ignore").encode()


def read_close(payload: bytes) -> tuple[int, str]:
    """Returns code and reason of a close frame. Raises FrameError for what may not stand there."""
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise FrameError(PROTOCOL_ERROR, "A close has a code that may not be sent.")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(NOT_UTF_8, "A close has a reason that is not UTF-8.") from None


def is_key(key: bytes) -> bool:
    """Whether this is a client's handshake key: 16 bytes in base64."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def accept_of(key: bytes) -> bytes:
    """What a server answers to a handshake with this key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def listed(value: bytes) -> list[bytes]:
    """The members of a header field that is a list; empty where one of them is no token."""
    members = [member.strip(b" \t") for member in value.split(b",")]
    return members if all(map(_TOKEN.fullmatch, members)) else []


def _is_utf_8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
