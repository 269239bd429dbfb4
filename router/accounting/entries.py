"""The form of the ledger's segments: how records are framed, and where a reader must stop.

A segment is a row of frames; what was not written yet is zero bytes. A frame holds the requests that ended in one turn
of the event loop:

    length of the payload, u32 | CRC-32, u32 | sequence, u64 | payload: MessagePack, an array of `RequestRecord`s

all little-endian. Among the records may be homes of what clients have stored (`model.stored.Home`), which say what they
are. The sequence counts the frames of one writer without gaps, over segments and restarts; the CRC is of
the payload and starts from the sequence's low 32 bits, so it covers these, too. A process that is killed within a copy
leaves one frame that is not whole: its length is still zero, or its CRC is wrong. A loss of power may leave more of
them. Reading ends at the first; nothing behind it is guessed at. Records are maps, by name: a reader skips what it does
not know and takes the default for what is missing, so older and newer routers read each other's segments.

Knows nothing of files and of clocks: it is handed bytes.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from zlib import crc32

import msgspec

from router.model.outcome import RequestRecord
from router.model.stored import Home

FRAME_BYTES: Final = 16
"""What a frame has beside its payload."""

_FRAME: Final = struct.Struct("<IIQ")
_INTEGER_MAX: Final = (1 << 63) - 1

write_frame: Final = _FRAME.pack_into
"""`write_frame(buffer, offset, length, checksum, sequence)`."""
checksum: Final = crc32
"""`checksum(payload, sequence)`: CRC-32, from the sequence's low 32 bits on."""


def _name_of_type(value: object) -> str:
    """A field that holds what it should not is our bug, and costs that field: not the answers of a whole turn."""
    return type(value).__name__


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_name_of_type).encode
encode: Final[Callable[[Sequence[RequestRecord | Home]], bytes]] = _encode
"""The payload of one frame. Raises one of `UNENCODABLE`."""
UNENCODABLE: Final = (UnicodeEncodeError, OverflowError)
"""A lone surrogate, an integer beyond 64 bits: what `encode_mended` replaces."""
_decode: Final[Callable[[bytes | memoryview], list[RequestRecord]]] = msgspec.msgpack.Decoder(
    list[RequestRecord]
).decode
_decode_raw: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_home: Final = msgspec.msgpack.Decoder(Home).decode
_decode_record: Final = msgspec.msgpack.Decoder(RequestRecord).decode


def encode_mended(records: Sequence[RequestRecord | Home]) -> bytes:
    """As `encode`, with `?` and the nearest integer for what MessagePack has no form for."""
    return _encode(_mended(msgspec.to_builtins(records, enc_hook=_name_of_type)))


def decode(payload: bytes | memoryview) -> list[RequestRecord]:
    """The records alone. Raises as `decode_all`."""
    return decode_all(payload)[0]


def decode_all(payload: bytes | memoryview) -> tuple[list[RequestRecord], list[Home]]:
    """Raises msgspec.MsgspecError for what is no array of records and homes."""
    try:
        return _decode(payload), []  # most have no home in them, which is no record
    except msgspec.ValidationError:
        records: list[RequestRecord] = []
        homes: list[Home] = []
        for raw in _decode_raw(payload):
            try:
                homes.append(_decode_home(raw))
            except msgspec.ValidationError:
                records.append(_decode_record(raw))
        return records, homes


def frame(records: Sequence[RequestRecord | Home], sequence: int) -> bytes:
    """One frame, whole. The writer puts its parts where they belong instead. Raises as `encode`."""
    payload = encode(records)
    return _FRAME.pack(len(payload), checksum(payload, sequence), sequence) + payload


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One whole frame: its place in the bytes that were read, and what it holds."""

    sequence: int
    end: int  # offset behind it
    payload: memoryview


def frames(data: bytes | memoryview, start: int = 0) -> Iterator[Frame]:
    """Yields the whole frames from `start` on, and stops at the first that is not, or does not follow."""
    view = memoryview(data)
    size, expected = len(view), 0
    while start + FRAME_BYTES <= size:
        length, check, sequence = _FRAME.unpack_from(view, start)
        begin, end = start + FRAME_BYTES, start + FRAME_BYTES + length
        if not length or end > size or (expected and sequence != expected):
            return
        payload = view[begin:end]
        if checksum(payload, sequence) != check:
            return
        yield Frame(sequence, end, payload)
        start, expected = end, sequence + 1


def walk(data: bytes | memoryview, start: int = 0) -> Iterator[tuple[int, list[RequestRecord]]]:
    """Yields the offset behind each whole frame and its records; stops as `frames`."""
    for each in frames(data, start):
        yield each.end, decode(each.payload)


def _mended(value: object) -> object:
    """The same value, as far as MessagePack has a form for it."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case int():
            return max(-_INTEGER_MAX, min(value, _INTEGER_MAX))
        case list() | tuple():
            return [_mended(item) for item in value]
        case dict():
            return {key: _mended(item) for key, item in value.items()}
        case _:
            return value
