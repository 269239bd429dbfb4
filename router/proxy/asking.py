"""One deployment, asked once: a connection, the send, and the wait for the commit point of its answer."""

from math import inf
from time import monotonic

from router.base.errors import RouterError, StaleConnectionError
from router.model.plan import Permit
from router.proxy.answer import Answer
from router.proxy.backend import Target
from router.proxy.choice import may_choose
from router.proxy.context import Attempt, Context
from router.proxy.ending import end_attempt
from router.proxy.failures import SlowError, WithdrawnError, outcome_of, raise_for, total_passed
from router.proxy.outgoing import request_parts
from router.proxy.runtime import Runtime
from router.proxy.signing import signed_parts
from router.transport.fiber import Parking
from router.transport.upstream import UpstreamConnection


async def ask(ctx: Context, rt: Runtime, attempt: Attempt, waiter: Parking) -> Answer:
    """Returns a committed answer, or one that is the client's to see. Ends the attempt where it raises.

    A reused connection that turns out to be dead costs one free resend. Raises UpstreamError, ClientGoneError.
    """
    target = attempt.target
    resent = False
    try:
        up_lines, trace = ctx.up_lines, ctx.trace
        if trace is not None:
            attempt.span_id = trace.new_span_id()
            up_lines += trace.line(attempt.span_id)
        # Before a connection is taken: from then on nothing but the send may fail.
        if target.identity.signs:
            parts = await signed_parts(ctx, rt, target, up_lines, waiter)
        else:
            parts = request_parts(ctx, target, up_lines)
        while True:
            permit = _permit(ctx, rt, target)
            # What was idle beside a dead connection may be as dead: the resend goes on a fresh one.
            connection = target.backend.pool.take(permit) if not resent else None
            attempt.reused = connection is not None
            if connection is None:
                connection = await _dialled(ctx, target, permit, waiter)
                attempt.connect_s, attempt.tls_s = connection.connect_s, connection.tls_s
                try:
                    permit = _permit(ctx, rt, target)  # asked for again: a reload may have come meanwhile
                except RouterError:
                    target.backend.pool.give(connection)
                    raise
            answer = attempt.answer = _answer(ctx, target)
            answer.bind(connection)
            try:
                connection.send(permit, parts, answer)
                while not answer.decided:
                    await waiter.park(min(answer.look_again_at, answer.objective_at), answer.late)
                    if answer.objective_at < inf:
                        _give_up_if_slow(ctx, rt, answer)
                raise_for(answer)
                return answer
            except StaleConnectionError as error:
                if not ctx.budget.allows_resend():
                    raise
                resent = True
                attempt.answer = None
                error.with_traceback(None)  # the answer holds it, and it the frames that hold the answer
    except RouterError as error:
        if attempt.answer is not None:
            attempt.answer.abort()
        if ctx.attempt is attempt:
            ctx.attempt = None
        else:
            ctx.hedge = None
        end_attempt(ctx, rt, attempt, outcome_of(error), monotonic(), error)
        raise


def _permit(ctx: Context, rt: Runtime, target: Target) -> Permit:
    """What the request may use at this moment. Raises WithdrawnError where a reload took the target's cloud away."""
    permit = rt.permit(ctx)
    if not permit.allows(target.cloud):
        raise WithdrawnError("The deployment is no longer one that this request may use.")
    return permit


async def _dialled(ctx: Context, target: Target, permit: Permit, waiter: Parking) -> UpstreamConnection:
    """Waits for a new connection. Raises ConnectError, ClientGoneError."""
    dial = target.backend.pool.dial(permit, ctx.inbound.wake)
    try:
        while not dial.done:
            await waiter.park(ctx.total_at, total_passed)
    except BaseException:
        dial.cancel()
        if dial.connection is not None:
            target.backend.pool.give(dial.connection)
        raise
    if dial.connection is None:
        assert dial.error is not None
        raise dial.error
    return dial.connection


def _answer(ctx: Context, target: Target) -> Answer:
    facts, plan = ctx.facts, ctx.plan
    assert facts is not None
    assert plan is not None
    now = monotonic()
    timeouts = target.backend.deployment.endpoint.timeouts
    commit_s = min(timeouts.commit_stream_s if facts.stream else timeouts.commit_json_s, ctx.patience_s)
    hide_usage = facts.usage_at is not None and target.route.usage_option
    give_up_at = min(now + commit_s, ctx.total_at)
    answer = Answer(ctx.inbound, target, timeouts, facts.stream, hide_usage, give_up_at, ctx.total_at, now)
    objective_s = plan.traffic.objective_s
    if objective_s is not None and facts.stream:
        answer.objective_at = now + objective_s
    return answer


def _give_up_if_slow(ctx: Context, rt: Runtime, answer: Answer) -> None:
    """Raises SlowError past the workload's objective, where another deployment may be asked instead."""
    now = monotonic()
    if now < answer.objective_at or answer.decided:
        return
    answer.objective_at = inf  # once: the last one that may be asked is waited for
    plan = ctx.plan
    assert plan is not None
    may_ask = ctx.budget.allows_another and plan.traffic.retries.left(now) >= 1.0
    if may_ask and may_choose(ctx, rt.permit(ctx), now, answer.target):
        raise SlowError("The deployment was slower than the objective.")
