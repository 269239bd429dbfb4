"""Server-sent events as bytes: where one ends and what its lines say.

A line ends with CR, LF or CRLF, in any mixture; an event ends with a blank line.
"""

import re
from typing import Final

# Atomic: CRLF is one line end, never a CR and then an LF.
_LINE_END: Final = re.compile(rb"(?>\r\n?|\n)")


def last_event_end(buffer: bytes | bytearray) -> int:
    """Returns the index just after the last blank line, 0 where there is none. `buffer` begins where an event begins.

    A CR at the very end may be half of a CRLF, so it ends nothing until the byte behind it is known.
    """
    if buffer.endswith(b"\n\n"):
        return len(buffer)
    # Two line ends touch in one of three byte pairs; the fourth, CR LF, is a single line end.
    known = len(buffer) - 1 if buffer.endswith(b"\r") else len(buffer)
    pair = max(buffer.rfind(b"\n\n", 0, known), buffer.rfind(b"\n\r", 0, known), buffer.rfind(b"\r\r", 0, known))
    blank = pair + 1  # without a pair: 0, where a leading line end is a blank line by itself
    end = _LINE_END.match(buffer, blank, known)
    if end is None:
        return 0
    # The CR that was left out is also what a CR LF pair may still become.
    return end.end()


def split_events(payload: bytes) -> list[bytes]:
    """Cuts after every blank line. The parts joined are the payload; only the last may lack its blank line."""
    events = []
    start = line = 0
    for line_end in _LINE_END.finditer(payload):
        end = line_end.end()
        if line_end.start() == line:
            events.append(payload[start:end])
            start = end
        line = end
    if start < len(payload):
        events.append(payload[start:])
    return events


def read_event(event: bytes) -> tuple[bytes, bytes]:
    """Returns the event's name and its data: `data` lines joined by LF, comments and other fields left out."""
    name = b""
    data = []
    for line in _LINE_END.split(event):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return name, b"\n".join(data)
