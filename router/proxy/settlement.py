"""The end of a request: what it took is given back, and one record says what became of it. Once, always."""

from time import monotonic
from typing import Final

from router.base.errors import Origin, RouterError, StrangerError, StreamBrokenError, UpstreamError
from router.model.decision import Decision
from router.model.outcome import RequestRecord
from router.proxy.backend import Serves
from router.proxy.context import Context
from router.proxy.ending import end_attempt
from router.proxy.runtime import Runtime

_NOBODY: Final = "", ""  # who asked, and of which workload
_NOWHERE: Final[Serves] = ("", "", "", ())
# How the last attempt ended, which committed: whether its answer became whole is known only at the request's end.
_ATTEMPT_OUTCOMES: Final = {"ok": "served", "stream_broken": "broken", "client_gone": "client_gone"}


def settle(ctx: Context, rt: Runtime) -> None:
    """Gives back the slots, and writes the request's record and why it went where it went."""
    error = ctx.error
    if error is None and ctx.status < 400:
        outcome, attempt_outcome, code = "ok", "served", ""
    else:
        outcome, code = _outcome(ctx), error.code if error is not None else ""
        attempt_outcome = _ATTEMPT_OUTCOMES.get(outcome, "answered")
        if error is not None:
            # Both lead to the frames that hold `ctx`: a cycle that only the collector would end.
            error.__traceback__ = error.__context__ = None
            if isinstance(error, StrangerError):
                return  # it has taken nothing, and is in a count of its own: a flood of them must not fill the log
    now = monotonic()
    if ctx.attempt is not None:
        end_attempt(ctx, rt, ctx.attempt, attempt_outcome, now)
    if ctx.hedge is not None:
        end_attempt(ctx, rt, ctx.hedge, attempt_outcome, now)
    if ctx.caller.key is not None:
        rt.in_flight[ctx.caller.key.workload] -= 1
    record = _record(ctx, rt, outcome, code, now)
    if ctx.admitted is not None:
        rt.limits.settle(ctx, record, now)
    rt.books.request(record)
    if ctx.trace is not None and rt.tracing is not None:
        rt.tracing.end(ctx.trace, record, ctx.snapshot.deployments)


def _record(ctx: Context, rt: Runtime, outcome: str, code: str, now: float) -> RequestRecord:
    """Makes the request's record, and chains its decision where it came as far as a plan."""
    inbound, caller, plan, answer = ctx.inbound, ctx.caller, ctx.plan, ctx.answer
    started_at, first_byte_at = inbound.started_at, inbound.first_byte_at
    total_s = now - started_at
    at = rt.clock.wall() - total_s
    name, workload = (caller.key.name, caller.key.workload) if caller.key is not None else _NOBODY
    model, operation, reason, rule_version = plan.labels if plan is not None else ("", ctx.operation_name, "", "")
    served_by, cloud, endpoint, offers = _NOWHERE
    usage, cost_nano_usd, first_token_ms = None, 0, 0.0
    if answer is not None:
        served_by, cloud, endpoint, offers = answer.target.serves
        billed = ctx.attempts[-1]  # of this answer: the client is charged for it, and not for what failed before
        usage, cost_nano_usd = billed.usage, billed.cost_nano_usd
        if answer.first_token_at:
            first_token_ms = (answer.first_token_at - started_at) * 1000
    refusals = ctx.refused_offers() if ctx.refusals or ctx.left_holder else ()
    if plan is not None:
        if refusals:
            offers = (*ctx.refused_for_certain(refusals), *offers)
        rt.decisions.write(
            Decision(
                ctx.id, at, name, workload, model, operation, reason, rule_version, offers, served_by, cloud, outcome
            )
        )
    # fmt: off
    return RequestRecord(
        # By place, in the record's order: its names would be looked up one by one, for 0.7 µs a request.
        ctx.id, at, outcome, ctx.status, total_s * 1000, caller.client_id, name, workload,
        model, operation, reason, rule_version, ctx.facts is not None and ctx.facts.stream, served_by, cloud, code,
        tuple(ctx.attempts), refusals, ctx.left_holder, ctx.queued_s * 1000,
        (first_byte_at - started_at) * 1000 if first_byte_at else 0.0, (total_s - inbound.waited_s) * 1000,
        inbound.bytes_in, inbound.bytes_out, usage,
        ctx.trace.trace_id if ctx.trace is not None else caller.trace_id, cost_nano_usd, first_token_ms, endpoint,
        caller.client,
    )
    # fmt: on


def _outcome(ctx: Context) -> str:
    error = ctx.error
    if error is None:
        return "ok" if ctx.status < 400 else "client_error"
    if ctx.status == 499:
        return "client_gone"
    if isinstance(error, StreamBrokenError) or (ctx.status < 400 and type(error) is not RouterError):
        return "stream_broken"  # by the deployment, or by the end of this process: the client was sent a success
    if error.origin is Origin.CLIENT:
        return "client_error"
    if isinstance(error, UpstreamError) or error.origin is Origin.BACKEND:
        return "upstream_error"
    return "internal_error" if type(error) is RouterError else "refused"
