"""What stands before HTTP on a connection: a PROXY header of version 2, and the begin of a TLS handshake.

Pure: of bytes. After "The PROXY protocol, versions 1 & 2" (HAProxy, 2020) and RFC 8446 §4 and §5.1.
"""

import socket
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
HEADER_START: Final = 16  # bytes that tell how long a PROXY header is
HEADER_BYTES_MAX: Final = 4 << 10  # with what balancers add of their own; the usual one has 28 or 52
HELLO_START: Final = 9  # bytes of TLS that tell how long a ClientHello is
_RECORD: Final = 5
_RECORD_BYTES_MAX: Final = 16 << 10

_LOCAL, _PROXY = 0x20, 0x21  # version 2, and a command
_FAMILIES: Final = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}  # TCP; and the bytes of an address


class PreambleError(Exception):
    """The connection does not begin as it must."""


def header_length(start: bytes) -> int:
    """Of the whole header, from its first 16 bytes, or as many as there are: 0 for too few. Raises PreambleError."""
    if not start.startswith(SIGNATURE[: len(start)]):
        raise PreambleError
    if len(start) < HEADER_START:
        return 0
    if start[12] not in (_LOCAL, _PROXY):
        raise PreambleError
    length = HEADER_START + int.from_bytes(start[14:16])
    if length > HEADER_BYTES_MAX:
        raise PreambleError
    return length


def client_of(header: bytes) -> str:
    """The client's address as a whole header says it; empty where that is the sender itself, or has none.

    So with LOCAL, which is a proxy's own check of health, and with families that have no address of the internet.
    Raises PreambleError.
    """
    family = _FAMILIES.get(header[13])
    if header[12] == _LOCAL or family is None:
        return ""
    kind, size = family
    if len(header) < HEADER_START + 2 * size + 4:
        raise PreambleError
    return socket.inet_ntop(kind, header[HEADER_START : HEADER_START + size])


def hello_length(start: bytes) -> int:
    """Of a ClientHello with its record, from its first 9 bytes, or as many as there are: 0 for too few.

    It must stand in one record: what is heavy about a handshake begins where it ends, and is to begin when the loop has
    time for it. RFC 8446 allows it to be divided, which no library does. Raises PreambleError.
    """
    if start[:1] != b"\x16" or start[1:2] not in (b"", b"\x03"):
        raise PreambleError
    if len(start) < HELLO_START:
        return 0
    record = int.from_bytes(start[3:5])
    if record > _RECORD_BYTES_MAX or start[5] != 1 or int.from_bytes(start[6:9]) + 4 > record:
        raise PreambleError
    return _RECORD + record
