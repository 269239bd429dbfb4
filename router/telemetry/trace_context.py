"""W3C Trace Context: which trace a request belongs to, as its `traceparent` says it and as the next hop is told.

What does not parse is nobody's trace: it is not passed on, and neither is a `tracestate` without a `traceparent`.
(W3C Trace Context, https://www.w3.org/TR/trace-context/, sections 3.2 and 4.3.)
"""

import random
import re
from typing import Final

# `ff` is forbidden. Versions above 00 may say more behind a hyphen, and are read as far as 00 goes.
_TRACEPARENT: Final = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    rb"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_SAMPLED: Final = 0x01
_RANDOM: Final = 0x02  # the trace id was drawn at random (level 2): whoever goes on with a trace keeps the flag


class Parent:
    """The span that a client was in when it sent the request."""

    __slots__ = ("flags", "span_id", "trace_id")

    def __init__(self, trace_id: str, span_id: str, flags: int) -> None:
        self.trace_id = trace_id  # 32 lower-case hexadecimal digits, not all zero
        self.span_id = span_id  # 16 of them
        self.flags = flags

    @property
    def sampled(self) -> bool:
        """The client records its part of the trace."""
        return bool(self.flags & _SAMPLED)


class Trace:
    """The trace of one request that is recorded: its own span, and how each attempt is told of it."""

    __slots__ = ("_draw", "flags", "parent_id", "route", "span_id", "trace_id")

    def __init__(self, parent: Parent | None, route: str, rng: random.Random) -> None:
        """`route`: method and path of the request, without what a client is free to write in it."""
        self._draw = rng.getrandbits
        self.route = route
        self.span_id = self.new_span_id()
        self.parent_id = ""
        if parent is not None:
            self.trace_id, self.parent_id = parent.trace_id, parent.span_id
            self.flags = parent.flags & _RANDOM | _SAMPLED
        else:
            self.trace_id, self.flags = f"{self._draw(128) or 1:032x}", _SAMPLED | _RANDOM

    def new_span_id(self) -> str:
        return f"{self._draw(64) or 1:016x}"

    def line(self, span_id: str) -> bytes:
        """The header line that makes the attempt `span_id` the parent of what the deployment records."""
        return f"traceparent: 00-{self.trace_id}-{span_id}-{self.flags:02x}\r\n".encode()


def read_traceparent(value: bytes | None) -> Parent | None:
    """The parent that a header's value names; None where there is none, or none that is valid."""
    if value is None:
        return None
    found = _TRACEPARENT.fullmatch(value)
    if found is None or (found["more"] is not None and found["version"] == b"00"):
        return None
    return Parent(found["trace"].decode(), found["span"].decode(), int(found["flags"], 16))
