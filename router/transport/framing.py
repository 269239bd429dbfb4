"""Chunked framing: as we write it, and as a client's body comes in it."""

from typing import Final

import httptools

from router.base.errors import MalformedHttpError

LAST_CHUNK: Final = b"0\r\n\r\n"
FRAMING_BYTES_SLACK: Final = 1 << 20  # of a chunked body: sizes, extensions, trailers, beyond 8 bytes a payload byte


def chunk(payload: bytes) -> bytes:
    """Frames payload (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class ChunkedBody:
    """Collects a chunked request body. Raises MalformedHttpError for bad framing, a 413 beyond the bound."""

    __slots__ = ("_bytes_max", "_overhead", "_parser", "_payload", "complete", "overrun")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._payload = bytearray()  # in one piece: a list of many small ones would hold a multiple of their bytes
        self._overhead = 0  # bytes that are no payload
        self.complete = False
        self.overrun = False  # bytes came behind the body in the same read; where they begin is not known
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    @property
    def size(self) -> int:
        return len(self._payload)

    def on_message_begin(self) -> None:
        if self.complete:
            raise _BehindBodyError

    def on_body(self, data: bytes) -> None:
        self._payload += data

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> None:
        before = self.size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise MalformedHttpError(f"The request's chunked body is not valid: {error}.") from None
            self.overrun = True
        if self.size > self._bytes_max:
            raise body_too_large(self._bytes_max)
        self._overhead += len(data) - (self.size - before)
        if self._overhead > FRAMING_BYTES_SLACK + 8 * self.size:
            raise MalformedHttpError("The chunked body has more framing than content.")

    def take(self) -> bytearray:
        return self._payload


class _BehindBodyError(Exception):
    """Stops llhttp where a second request would begin."""


def body_too_large(bytes_max: int) -> MalformedHttpError:
    """The error of a body beyond its bound; nothing after it can be read."""
    return MalformedHttpError(
        f"The request's body is longer than {bytes_max} bytes.", status=413, code="body_too_large"
    )
