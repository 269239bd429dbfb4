"""Phases that all requests have, whatever they ask for: may a body come in, and how an answer reaches the client."""

from time import monotonic

from router.base.heap import CROWDED_BYTES
from router.config.snapshot import ServerSettings
from router.limits.admission import admit_body
from router.providers.errors import client_error
from router.providers.headers import answer_headers, retry_headers
from router.proxy.answer import Answer, broken
from router.proxy.context import Context
from router.proxy.replies import json_headers, status_line
from router.proxy.runtime import Runtime
from router.transport.inbound import Inbound
from router.transport.server import Server


def admit(inbound: Inbound, settings: ServerSettings, server: Server) -> None:
    """Before a body byte is read: may this body come in at all."""
    # A body that came with its head is in memory, and counted, already.
    buffered = server.buffered_bytes - len(inbound.body)
    length = inbound.body_length
    if length > settings.body_bytes_max or buffered + length > settings.buffered_bytes_max:
        admit_body(length, settings.body_bytes_max, buffered, settings.buffered_bytes_max)
    if buffered + length > CROWDED_BYTES:
        server.heap.crowd()


def reply_json(ctx: Context, body: bytes) -> None:
    """What the router itself knows."""
    ctx.status = 200
    now = monotonic()
    ctx.inbound.answer_whole(status_line(200), json_headers(ctx.id) + limit_lines(ctx, now), body, now)


def reply_whole(ctx: Context, answer: Answer) -> None:
    """The usual end of an answer that is no stream: it came whole, and leaves in one write."""
    inbound, head = ctx.inbound, answer.head
    assert head is not None
    ctx.status = head.status
    now = monotonic()
    inbound.answer_whole(status_line(head.status), _headers_down(ctx, answer, now), answer.held_body(), now)


async def relay(ctx: Context, rt: Runtime, answer: Answer) -> None:
    """From the commit point to the end. Raises StreamBrokenError, or ClientGoneError."""
    inbound, head = ctx.inbound, answer.head
    assert head is not None
    inbound.release_body()
    now = monotonic()
    ctx.status = head.status
    headers = _headers_down(ctx, answer, now)
    if head.length is not None and not answer.is_stream:
        inbound.begin_sized_answer(status_line(head.status), headers, head.length, now)
    else:
        inbound.begin_answer(status_line(head.status), headers, None, now)
    assert ctx.caller.key is not None
    gaps = rt.books.gaps(ctx.caller.key.workload, answer.target.cloud) if answer.is_stream else None
    answer.flow(now, gaps)
    wheel = inbound.wheel
    wheel.arm(answer, now)
    try:
        while not answer.finished:
            await inbound.rest()
    finally:
        wheel.disarm(answer)
        answer.stop()
    if not answer.complete():
        raise broken(answer.error)
    inbound.end()


def _headers_down(ctx: Context, answer: Answer, now: float) -> bytes:
    """What passes of the upstream's header lines, and the router's own."""
    assert answer.head is not None
    lines = b"%bx-request-id: %b\r\n" % (answer_headers(answer.head.fields, ctx.caller.reveal), ctx.id.encode())
    if ctx.caller.reveal:
        lines += f"x-router-served-by: {answer.target.cloud}/{answer.target.id}\r\n".encode()
    allowance = ctx.caller.allowance
    return lines if allowance is None else lines + allowance.lines(now)


def limit_lines(ctx: Context, now: float) -> bytes:
    """What its key has left, on whatever the router says itself."""
    allowance = ctx.caller.allowance
    return allowance.lines(now) if allowance is not None else b""


def pass_error(ctx: Context, answer: Answer) -> None:
    """A client's own error, as the deployment put it."""
    head, target = answer.head, answer.target
    assert head is not None
    judgement = target.judge(head.status, head.fields, answer.held_body())
    shown = client_error(
        head.status, answer.held_body(), judgement, target.backend.deployment, reveal=ctx.caller.reveal
    )
    ctx.status = shown.status
    now = monotonic()
    headers = json_headers(ctx.id) + retry_headers(head.fields) + limit_lines(ctx, now)
    ctx.inbound.answer_whole(status_line(shown.status), headers, shown.body, now)
