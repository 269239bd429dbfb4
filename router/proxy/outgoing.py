"""The request as the deployment gets it: a head from scratch, and the client's body with the model's name in it."""

import re
from functools import lru_cache
from math import inf
from typing import Final

from router.model.operation import BodyKind
from router.proxy.backend import Target
from router.proxy.context import Attempt, Context
from router.proxy.facts import Facts, Splice
from router.proxy.failures import IdentityLostError
from router.telemetry.trace_context import Parent, Trace

JOIN_BYTES_MAX: Final = 64 << 10  # up to here one write of one joined string is cheaper than several
CLIENT_ID_BYTES_MAX: Final = 128
_SECONDS: Final = re.compile(rb"\d{1,6}(?:\.\d{1,9})?")
_EMPTY: Final = re.compile(rb"\s*\}")  # what follows the brace of an object without keys


def request_parts(ctx: Context, target: Target, up_lines: bytes) -> list[bytes | memoryview]:
    """Returns head and body in pieces that are written one after the other. The body is not copied where it is long.

    `up_lines`: what goes up of the client's head.

    The identity's lines come last in the head: nothing that a client sent stands behind them. Raises IdentityLostError.
    """
    facts = ctx.facts
    assert facts is not None
    body = ctx.inbound.body
    place = facts.model_at
    identity = target.identity.tail
    if identity is None:  # its token went while this request waited
        raise IdentityLostError("There is no valid credential for the deployment now.")
    if place is not None and facts.usage_at is None and len(body) <= JOIN_BYTES_MAX:
        # Usual: a short body in which the model's name alone changes.
        name = target.model_value
        length = len(body) - place.end + place.start + len(name)
        content = (body[: place.start], name, body[place.end :])
        return [b"".join((target.head, up_lines, length_line(length), identity, b"\r\n", *content))]
    pieces = _pieces(body, facts, target)
    length = sum(map(len, pieces))
    head = b"".join((target.head, up_lines, length_line(length), identity, b"\r\n"))
    if length <= JOIN_BYTES_MAX:
        return [head + b"".join(pieces)]
    return [head, *pieces]


def request_body(ctx: Context, target: Target) -> list[bytes | memoryview]:
    """Returns the body in pieces."""
    assert ctx.facts is not None
    return _pieces(ctx.inbound.body, ctx.facts, target)


def up_headers(fields: dict[bytes, bytes], parent: Parent | None, *, traced: bool = False) -> bytes:
    """The lines of the client's head that go up: an allow-list, so nothing else can.

    `parent`: what its `traceparent` says; without one, `tracestate` says nothing. `traced`: leave out the former, since
    each attempt writes its own.
    """
    lines = b"content-type: %b\r\naccept: %b\r\n" % (
        fields.get(b"content-type", b"application/json"),
        fields.get(b"accept", b"*/*"),
    )
    if parent is not None:
        if not traced:
            lines += b"traceparent: %b\r\n" % fields[b"traceparent"]
        if b"tracestate" in fields:
            lines += b"tracestate: %b\r\n" % fields[b"tracestate"]
    if b"openai-beta" in fields:
        lines += b"openai-beta: %b\r\n" % fields[b"openai-beta"]
    return lines


def traced_lines(ctx: Context, trace: Trace, attempt: Attempt) -> bytes:
    """Likewise for an attempt that is traced: the deployment is told that the attempt's own span is its parent."""
    attempt.span_id = trace.new_span_id()
    lines = up_headers(ctx.inbound.head.fields, ctx.caller.parent, traced=True)
    return lines + trace.line(attempt.span_id)


def _pieces(body: bytes | bytearray, facts: Facts, target: Target) -> list[bytes | memoryview]:
    splices = []
    if facts.usage_at is not None and target.route.usage_option:
        splices.append(facts.usage_at)
    if facts.model_at is not None or target.route.model_in_body:
        splices.append(_model_splice(body, facts, target))
    if not splices:
        return [memoryview(body)]
    if len(splices) > 1:
        splices.sort(key=_start)
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    at = 0
    for splice in splices:
        pieces += (view[at : splice.start], splice.text)
        at = splice.end
    pieces.append(view[at:])
    return pieces


def _model_splice(body: bytes | bytearray, facts: Facts, target: Target) -> Splice:
    place = facts.model_at
    if place is not None:
        return Splice(place.start, place.end, target.model_value)
    if target.operation.body is BodyKind.JSON:  # the client named the model in the path alone
        at = body.index(b"{") + 1
        comma = b"" if _EMPTY.match(body, at) is not None else b","
        return Splice(at, at, b'"model":%b%b' % (target.model_value, comma))
    return Splice(0, 0, facts.part_head + target.model_value + b"\r\n")


@lru_cache(maxsize=4096)
def length_line(length: int) -> bytes:
    return b"content-length: %d\r\n" % length


def _start(splice: Splice) -> int:
    return splice.start


def client_request_id(fields: dict[bytes, bytes]) -> str:
    """The client's own id, where it is short and visible ASCII; a log must not carry anything else of it."""
    value = fields.get(b"x-request-id")
    if value is None or len(value) > CLIENT_ID_BYTES_MAX or not all(33 <= byte <= 126 for byte in value):
        return ""
    return value.decode("ascii")


def client_patience_s(fields: dict[bytes, bytes]) -> float:
    """How long the client waits without a byte before it gives up, in seconds, as the SDKs say it; else infinity.

    It bounds the time to the commit point: an answer that comes later has no reader.
    """
    said = fields.get(b"x-stainless-read-timeout") or fields.get(b"x-stainless-timeout")
    if said is None or not _SECONDS.fullmatch(said):
        return inf
    return float(said) or inf
