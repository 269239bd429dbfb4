"""Server-sent events as bytes: where one ends and what its lines say.

A line ends with CR, LF or CRLF, in any mixture; an event ends with a blank line.
"""

from typing import Final

_BLANK: Final = frozenset({b"\n", b"\r", b"\r\n"})


def last_event_end(buffer: bytes | bytearray) -> int:
    """Returns the index just after the last blank line, 0 where there is none. `buffer` begins where an event begins.

    A CR at the very end may be half of a CRLF, so it ends nothing until the byte behind it is known.
    """
    if buffer.endswith(b"\n\n"):
        return len(buffer)
    if 13 not in buffer:  # 13: CR
        pair = buffer.rfind(b"\n\n")
        return pair + 2 if pair >= 0 else int(buffer.startswith(b"\n"))
    known = len(buffer) - buffer.endswith(b"\r")
    # Two line ends touch in one of three byte pairs; the fourth, CR LF, is a single line end.
    pair = buffer.rfind(b"\n\r", 0, known)
    for other in (b"\n\n", b"\r\r"):
        pair = max(pair, buffer.rfind(other, max(pair, 0), known))
    # The blank line's own end. Without a pair it can only be a line end at the very beginning.
    blank = pair + 1
    if buffer.startswith(b"\r\n", blank):
        return blank + 2
    return blank + 1 if blank < known and buffer[blank] in b"\r\n" else 0


def split_events(payload: bytes) -> list[bytes]:
    """Cuts after every blank line. The parts joined are the payload; only the last may lack its blank line."""
    if 13 not in payload:
        # A run of more than two LFs leaves the odd ones at the head of the next part, where they say nothing.
        *events, rest = payload.split(b"\n\n")
        parts = [event + b"\n\n" for event in events]
    else:
        parts, lines = [], []
        for line in payload.splitlines(keepends=True):
            lines.append(line)
            if line in _BLANK:
                parts.append(b"".join(lines))
                lines.clear()
        rest = b"".join(lines)
    if rest:
        parts.append(rest)
    return parts


def read_plain(payload: bytes) -> tuple[bytes, bytes] | None:
    """Returns name and data of a single event in the usual form, `[event: NAME LF] data: DATA LF LF`; else None."""
    name, start = b"", 0
    if payload.startswith(b"event: "):
        start = payload.find(b"\n") + 1
        name = payload[7 : start - 1]
    if not payload.startswith(b"data: ", start):
        return None
    data = payload[start + 6 : -2]
    # 10, 13: LF, CR. As integers they are found in a fifth of the time.
    return None if 10 in data or 13 in data or 13 in name or not payload.endswith(b"\n\n") else (name, data)


def read_events(payload: bytes) -> list[tuple[bytes, bytes]]:
    """Returns name and data of each whole event that has data: `data` lines joined by LF, other fields left out."""
    events = []
    name: bytes = b""
    data: list[bytes] = []
    for line in payload.splitlines() if 13 in payload else payload.split(b"\n")[:-1]:
        if line.startswith(b"data: "):
            data.append(line[6:])
        elif not line:
            if data:
                events.append((name, b"\n".join(data)))
                data.clear()
            name = b""
        else:
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
    return events
