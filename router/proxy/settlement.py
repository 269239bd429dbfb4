"""The end of a request: what it took is given back, and one record says what became of it. Once, always."""

from time import monotonic

from router.base.errors import Origin, RouterError, StreamBrokenError, UpstreamError
from router.model.outcome import RequestRecord
from router.proxy.context import Context
from router.proxy.runtime import Runtime

_CLIENT_ID_CHARS_MAX = 128


def settle(ctx: Context, rt: Runtime) -> None:
    """Gives back the slots and writes the request's record."""
    if ctx.error is not None:
        ctx.error.with_traceback(None)  # it leads to the frames that hold `ctx`: a cycle only the collector would end
    outcome = _outcome(ctx)
    ctx.end_attempt(_attempt_outcome(outcome))
    inbound, key, plan, answer = ctx.inbound, ctx.key, ctx.plan, ctx.answer
    if key is not None:
        rt.in_flight[key.workload] -= 1
    now = monotonic()
    total_s = now - inbound.started_at
    target = answer.target if answer is not None else None
    rt.books.request(
        RequestRecord(
            id=ctx.id,
            at=rt.clock.wall() - total_s,
            outcome=outcome,
            status=ctx.status,
            total_ms=total_s * 1000,
            client_request_id=_client_id(inbound.head.fields.get(b"x-request-id")),
            key=key.name if key is not None else "",
            workload=key.workload if key is not None else "",
            model=plan.plan.model if plan is not None else "",
            operation=ctx.ask.operation.name if ctx.ask is not None and ctx.ask.operation is not None else "",
            plan=plan.plan.reason if plan is not None else "",
            rule_version=plan.plan.permit.rule_version if plan is not None else "",
            stream=ctx.facts is not None and ctx.facts.stream,
            served_by=target.id if target is not None else "",
            cloud=target.cloud if target is not None else "",
            code=ctx.error.code if ctx.error is not None else "",
            attempts=tuple(ctx.attempts),
            first_byte_ms=(inbound.first_byte_at - inbound.started_at) * 1000 if inbound.answer_begun else 0.0,
            overhead_ms=(total_s - inbound.waited_s) * 1000,
            bytes_in=inbound.bytes_in,
            bytes_out=inbound.bytes_out,
            usage=answer.usage() if answer is not None else None,
        )
    )


def _attempt_outcome(outcome: str) -> str:
    """How the last attempt ended, which committed: whether its answer became whole is known only now."""
    if outcome == "ok":
        return "served"
    return {"stream_broken": "broken", "client_gone": "client_gone"}.get(outcome, "answered")


def _outcome(ctx: Context) -> str:
    error = ctx.error
    if error is None:
        return "ok" if ctx.status < 400 else "client_error"
    if ctx.status == 499:
        return "client_gone"
    if isinstance(error, StreamBrokenError):
        return "stream_broken"
    if error.origin is Origin.CLIENT:
        return "client_error"
    if isinstance(error, UpstreamError) or error.origin is Origin.BACKEND:
        return "upstream_error"
    return "internal_error" if type(error) is RouterError else "refused"


def _client_id(value: bytes | None) -> str:
    """The client's own id, where it is short and visible ASCII; a log must not carry anything else of it."""
    if value is None or len(value) > _CLIENT_ID_CHARS_MAX or not all(33 <= byte <= 126 for byte in value):
        return ""
    return value.decode("ascii")
