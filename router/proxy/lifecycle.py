"""The life of one request, top to bottom. A phase is a line of `serve`; its room has the details."""

from time import monotonic

from router.base.errors import (
    ClientGoneError,
    InvalidRequestError,
    NotFoundError,
    RouterError,
    StreamBrokenError,
    UnauthorizedError,
    place_of,
)
from router.limits.estimate import tokens_of
from router.model.error_body import error_body
from router.model.operation import BodyKind, Ending, Operation
from router.proxy.answer import broken
from router.proxy.attempts import first_answer
from router.proxy.context import Caller, Context
from router.proxy.exhaustion import PassedError
from router.proxy.facts import Facts, affinity_of, form_facts, json_facts, names_file
from router.proxy.fleet import LivePlan
from router.proxy.outgoing import client_patience_s, client_request_id, up_headers
from router.proxy.phases import admit, limit_lines, pass_error, relay, reply_json, reply_whole
from router.proxy.realtime.paths import find_session, presented
from router.proxy.realtime.session import run_session
from router.proxy.replies import (
    error_event,
    error_headers,
    model_list,
    status_line,
)
from router.proxy.runtime import Runtime
from router.proxy.settlement import settle
from router.proxy.stateful.serving import at_home, reply_bound, serve_stored
from router.proxy.surface import Ask, find_ask, route_of
from router.telemetry.trace_context import read_traceparent
from router.transport.heads import RequestHead
from router.transport.inbound import Inbound
from router.transport.server import Server


async def serve(inbound: Inbound, rt: Runtime, server: Server) -> None:
    """Serves one request and, whatever becomes of it, gives back all that it took."""
    ctx = Context(rt.new_request_id(), inbound, rt.current())
    try:
        ask = _recognise(ctx, rt)
        if ask.operation is None:
            if ask.usage:
                reply_json(ctx, await rt.own_usage.body(ctx, rt.clock.wall()))
            elif ask.stored is not None:
                await serve_stored(ctx, rt, server, ask.stored)
            elif ask.session is not None:
                await run_session(ctx, rt, server, ask.session)
            else:
                _reply_models(ctx)
            return
        allowance = ctx.caller.allowance
        if allowance is not None and (stop := rt.limits.admit(ctx, allowance, inbound.started_at)) is not None:
            await rt.limits.wait(ctx, rt.limits.admit, allowance, stop)
        admit(inbound, ctx.snapshot.server, server)
        if not inbound.body_whole:
            await inbound.read_body()
        facts = ctx.facts = _read_facts(inbound, ask.operation, ask.model)
        plan = ctx.plan = _place(ctx, rt, facts)
        if plan.watches_state and (facts.names_stored_state or names_file(inbound.body, plan.stored_words)):
            plan = ctx.plan = await at_home(ctx, rt, plan)
        if allowance is not None and (stop := rt.limits.charge(ctx, allowance, monotonic())) is not None:
            await rt.limits.wait(ctx, rt.limits.charge, allowance, stop)
        answer = ctx.answer = await first_answer(ctx, rt)
        if not answer.succeeded:
            pass_error(ctx, answer)
        elif plan.binds:
            await reply_bound(ctx, rt, answer)
        elif answer.ended and not answer.is_stream:
            reply_whole(ctx, answer)
        else:
            await relay(ctx, rt, answer)
    except RouterError as error:
        ctx.error = error
        _reply_error(ctx, error)
    except Exception as error:  # noqa: BLE001 - our bug: the client gets an answer, the log a trace, the process goes on
        ctx.error = RouterError("The router failed. The request id is in the header x-request-id.")
        rt.books.event("internal_error", request=ctx.id, error=type(error).__name__, at=place_of(error))
        _reply_error(ctx, ctx.error)
    finally:
        settle(ctx, rt)


def _recognise(ctx: Context, rt: Runtime) -> Ask:
    """Who asks, and for what: read from the head once, and remembered for as long as the client repeats it."""
    head = ctx.inbound.head
    caller = head.note
    if isinstance(caller, Caller) and caller.snapshot is ctx.snapshot and caller.key is not None:
        ctx.caller = caller
        workload = caller.key.workload
        rt.in_flight[workload] = rt.in_flight.get(workload, 0) + 1
    else:
        caller = _read_head(ctx, rt, head)
    ask = caller.ask
    assert ask is not None
    tracing = rt.tracing
    if tracing is not None and caller.key is not None and tracing.sampler.admits(caller.parent, caller.key.workload):
        ctx.trace = tracing.begin(caller.parent, route_of(head.method, head.target, ask))
    return ask


def _read_head(ctx: Context, rt: Runtime, head: RequestHead) -> Caller:
    """Takes the request into the count of its workload, until `settle`."""
    fields = head.fields
    caller = ctx.caller = Caller(ctx.snapshot, client_request_id(fields))
    if ctx.snapshot.server.log_clients:
        caller.client = ctx.inbound.peer
    session = find_session(head.method, head.target) if head.upgrade else None
    if session is not None:
        ctx.inbound.keep_alive = False  # switched or refused, its client speaks no more HTTP here
    try:
        shown = fields if session is None else presented(fields)
        key = caller.key = rt.authenticate(shown, ctx.inbound.certificates)
    except UnauthorizedError as nobody:
        raise rt.stranger(nobody, ctx.inbound) from None
    rt.in_flight[key.workload] = rt.in_flight.get(key.workload, 0) + 1
    caller.allowance = rt.limits.allowance(key)
    caller.reveal = ctx.snapshot.workloads[key.workload].reveal_upstream
    caller.ask = find_ask(head.method, head.target) if session is None else Ask(None, session=session)
    if fields.get(b"content-encoding", b"identity").lower() != b"identity":
        error = InvalidRequestError("The body must not be encoded: send it without Content-Encoding.")
        error.status, error.code = 415, "content_encoding"
        raise error
    parent = caller.parent = read_traceparent(fields.get(b"traceparent"))
    caller.trace_id = parent.trace_id if parent is not None else ""
    caller.patience_s, caller.up_lines = client_patience_s(fields), up_headers(fields, parent)
    head.note = caller
    return caller


def _read_facts(inbound: Inbound, operation: Operation, model: str | None) -> Facts:
    """What is asked. `model`: as the path names it."""
    if not inbound.body:
        raise InvalidRequestError("The request has no body.", code="missing_body")
    if operation.body is BodyKind.JSON:
        return json_facts(inbound.body, operation, model)
    return form_facts(inbound.body, inbound.head.fields.get(b"content-type", b""), model)


def _place(ctx: Context, rt: Runtime, facts: Facts) -> LivePlan:
    """Finds the plan that was made for this workload, model and operation when the configuration was loaded."""
    caller = ctx.caller
    plan = caller.plans.get(facts.model) if ctx.snapshot is rt.snapshot else None
    if plan is None:
        plan = _find_plan(ctx, rt, facts.model)
        if ctx.snapshot is rt.snapshot:
            caller.plans[facts.model] = plan
    ctx.tokens = tokens_of(facts)
    if plan.traffic.policy.affinity:
        facts.affinity = affinity_of(facts, ctx.inbound.body)
    return plan


def _find_plan(ctx: Context, rt: Runtime, model: str) -> LivePlan:
    key, ask = ctx.caller.key, ctx.caller.ask
    assert key is not None
    assert ask is not None
    assert ask.operation is not None
    model = ctx.snapshot.aliases.get(model, model)
    plan = rt.fleet.plans.get((key.workload, model, ask.operation.name)) if key.may_use(model) else None
    if plan is None:
        raise _no_plan(ctx, model)
    return plan


def _no_plan(ctx: Context, model: str) -> NotFoundError:
    key, ask = ctx.caller.key, ctx.caller.ask
    assert key is not None
    assert ask is not None
    assert ask.operation is not None
    served = key.may_use(model) and any(
        workload == key.workload and name == model for workload, name, _ in ctx.snapshot.plans
    )
    if served:
        return NotFoundError(
            f"The model `{model}` is not served for `{ask.operation.name}`.", code="unsupported_operation"
        )
    return NotFoundError("The model does not exist, or this key may not use it.", code="model_not_found", param="model")


def _reply_models(ctx: Context) -> None:
    """The list of models that this key may use, or one of them."""
    key, ask, snapshot = ctx.caller.key, ctx.caller.ask, ctx.snapshot
    assert key is not None
    assert ask is not None
    names = {model for workload, model, _ in snapshot.plans if workload == key.workload}
    names |= {alias for alias, model in snapshot.aliases.items() if model in names}
    allowed = {name for name in names if key.may_use(snapshot.aliases.get(name, name))}
    if ask.model is not None and ask.model not in allowed:
        raise NotFoundError(
            "The model does not exist, or this key may not use it.", code="model_not_found", param="model"
        )
    reply_json(ctx, model_list(allowed, only=ask.model))


def _reply_error(ctx: Context, error: RouterError) -> None:
    """Tells the client, in the way that is still open."""
    inbound = ctx.inbound
    for attempt in (ctx.attempt, ctx.hedge):
        if attempt is not None and attempt.answer is not None:  # our bug, in the middle of an attempt
            attempt.answer.abort()
    if isinstance(error, ClientGoneError):
        ctx.status = 499
        inbound.abandon()
    elif inbound.answer_begun:
        _break_stream(ctx, error)
    else:
        ctx.status = error.status
        if error.close:
            inbound.keep_alive = False
        body = error.body if isinstance(error, PassedError) else error_body(error)
        now = monotonic()
        headers = error_headers(error, ctx.id) + limit_lines(ctx, now)
        inbound.answer_whole(status_line(error.status), headers, body, now)


def _break_stream(ctx: Context, error: RouterError) -> None:
    """The answer has begun and will not be whole: the client must be able to see it."""
    answer = ctx.answer
    words = b""
    shown = ctx.error = error if isinstance(error, StreamBrokenError) else broken(error)
    if answer is not None and answer.watch is not None and answer.watch.error is None:
        words = error_event(shown, typed=answer.target.operation.ending is Ending.RESPONSES)
    ctx.inbound.break_off(words)
