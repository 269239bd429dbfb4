"""The end of a request: what it took is given back, and one record says what became of it. Once, always."""

from time import monotonic

from router.base.errors import Origin, RouterError, StreamBrokenError, UpstreamError
from router.model.decision import Decision, Offer
from router.model.outcome import RequestRecord
from router.proxy.context import Context
from router.proxy.ending import end_attempt
from router.proxy.runtime import Runtime


def settle(ctx: Context, rt: Runtime) -> None:
    """Gives back the slots, and writes the request's record and why it went where it went."""
    error, inbound, key, plan, answer = ctx.error, ctx.inbound, ctx.key, ctx.plan, ctx.answer
    if error is None and ctx.status < 400:
        outcome, code = "ok", ""
    else:
        outcome, code = _outcome(ctx), error.code if error is not None else ""
    now = monotonic()
    _give_back(ctx, rt, outcome, now)
    if error is not None:
        # Both lead to the frames that hold `ctx`: a cycle that only the collector would end.
        error.__traceback__ = error.__context__ = None
    model, operation, reason, rule_version = plan.labels if plan is not None else ("", ctx.operation_name, "", "")
    started_at, first_byte_at, total_s = inbound.started_at, inbound.first_byte_at, now - inbound.started_at
    at = rt.clock.wall() - total_s
    name, workload = (key.name, key.workload) if key is not None else ("", "")
    served_by, cloud, endpoint, usage, cost_nano_usd, first_token_ms = "", "", "", None, 0, 0.0
    if answer is not None:
        target, usage = answer.target, answer.usage()
        (served_by, cloud, endpoint), cost_nano_usd = target.labels, target.cost_nano_usd(usage)
        if answer.first_token_at:
            first_token_ms = (answer.first_token_at - started_at) * 1000
    refusals = ctx.refused_offers() if ctx.refusals or ctx.left_holder else ()
    if plan is not None:
        said = (ctx.id, at, name, workload, model, operation, reason, rule_version)
        rt.decisions.write(Decision(*said, _offers(ctx, refusals), served_by, cloud, outcome))
    # By place, in the record's order: 25 names would be looked up one by one, for 0.7 µs a request.
    record = RequestRecord(
        ctx.id,
        at,
        outcome,
        ctx.status,
        total_s * 1000,
        ctx.client_id,
        name,
        workload,
        model,
        operation,
        reason,
        rule_version,
        ctx.facts is not None and ctx.facts.stream,
        served_by,
        cloud,
        code,
        tuple(ctx.attempts),
        refusals,
        ctx.left_holder,
        ctx.queued_s * 1000,
        (first_byte_at - started_at) * 1000 if first_byte_at else 0.0,
        (total_s - inbound.waited_s) * 1000,
        inbound.bytes_in,
        inbound.bytes_out,
        usage,
        ctx.trace_id,
        cost_nano_usd,
        first_token_ms,
        endpoint,
    )
    _write_down(ctx, rt, record)


def _write_down(ctx: Context, rt: Runtime, record: RequestRecord) -> None:
    rt.books.request(record)
    if ctx.trace is not None and rt.tracing is not None:
        rt.tracing.end(ctx.trace, record, ctx.snapshot.deployments)


def _offers(ctx: Context, refusals: tuple[Offer, ...]) -> tuple[Offer, ...]:
    """Everybody whom the request was offered to, as far as that proves something, and last who served it."""
    offers = ctx.refused_for_certain(refusals) if refusals else ()
    return (*offers, ctx.answer.target.accepted) if ctx.answer is not None else offers


def _give_back(ctx: Context, rt: Runtime, outcome: str, now: float) -> None:
    """Ends the attempts that still run, and takes the request out of its workload's count."""
    for attempt in (ctx.attempt, ctx.hedge):
        if attempt is not None:
            end_attempt(ctx, rt, attempt, _attempt_outcome(outcome), now)
    if ctx.key is not None:
        rt.in_flight[ctx.key.workload] -= 1


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
    if isinstance(error, StreamBrokenError) or (ctx.status < 400 and type(error) is not RouterError):
        return "stream_broken"  # by the deployment, or by the end of this process: the client was sent a success
    if error.origin is Origin.CLIENT:
        return "client_error"
    if isinstance(error, UpstreamError) or error.origin is Origin.BACKEND:
        return "upstream_error"
    return "internal_error" if type(error) is RouterError else "refused"
