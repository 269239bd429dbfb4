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
from router.proxy.outgoing import request_parts, traced_lines
from router.proxy.runtime import Runtime
from router.proxy.signing import signed_parts
from router.transport.fiber import Parking
from router.transport.upstream import UpstreamConnection


async def ask(ctx: Context, rt: Runtime, attempt: Attempt, permit: Permit, waiter: Parking) -> Answer:
    """Returns a committed answer, or one that is the client's to see. Ends the attempt where it raises.

    `permit`: what the request may use at this moment; asked for again after each wait, since a reload may have come.
    A reused connection that turns out to be dead costs one free resend. Raises UpstreamError, ClientGoneError.
    """
    target, now = attempt.target, attempt.began
    pool = target.backend.pool
    resent = False
    try:
        up_lines = ctx.caller.up_lines if ctx.trace is None else traced_lines(ctx, ctx.trace, attempt)
        # Before a connection is taken: from then on nothing but the send may fail.
        if target.identity.signs:
            parts = await signed_parts(ctx, rt, target, up_lines, waiter)
            permit, now = permitted(ctx, rt, target), monotonic()
        else:
            parts = request_parts(ctx, target, up_lines)
        while True:
            if resent:
                permit = permitted(ctx, rt, target)
            # What was idle beside a dead connection may be as dead: the resend goes on a fresh one.
            connection = pool.take(permit) if not resent else None
            attempt.reused = connection is not None
            if connection is None:
                connection = await dialled(ctx, target, permit, waiter)
                attempt.connect_s, attempt.tls_s = connection.connect_s, connection.tls_s
                try:
                    permit, now = permitted(ctx, rt, target), monotonic()
                except RouterError:
                    pool.give(connection)
                    raise
            answer = attempt.answer = _answer(ctx, target, connection, now)
            try:
                connection.send(permit, parts, answer)
                while not answer.decided:
                    await waiter.park(answer.look_again_at, answer.late)
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
        spoiled(ctx, rt, attempt, error)
        raise


def spoiled(ctx: Context, rt: Runtime, attempt: Attempt, error: RouterError) -> None:
    """Ends an attempt that came to nothing."""
    if attempt.answer is not None:
        attempt.answer.abort()
    if ctx.attempt is attempt:
        ctx.attempt = None
    else:
        ctx.hedge = None
    end_attempt(ctx, rt, attempt, outcome_of(error), monotonic(), error)


def permitted(ctx: Context, rt: Runtime, target: Target) -> Permit:
    """What the request may use at this moment. Raises WithdrawnError where a reload took the target's cloud away."""
    permit = rt.permit(ctx)
    if not permit.allows(target.cloud):
        raise WithdrawnError("The deployment is no longer one that this request may use.")
    return permit


async def dialled(ctx: Context, target: Target, permit: Permit, waiter: Parking) -> UpstreamConnection:
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


def _answer(ctx: Context, target: Target, connection: UpstreamConnection, now: float) -> Answer:
    facts, plan, timeouts = ctx.facts, ctx.plan, target.timeouts
    assert facts is not None
    assert plan is not None
    stream, total_at = facts.stream, ctx.total_at
    give_up_at = now + (timeouts.commit_stream_s if stream else timeouts.commit_json_s)
    if give_up_at > now + ctx.caller.patience_s:
        give_up_at = now + ctx.caller.patience_s
    if give_up_at > total_at:
        give_up_at = total_at
    answer = Answer(ctx.inbound, target, connection, stream, give_up_at, total_at, now)
    if stream:
        answer.hide_usage = facts.usage_at is not None and target.route.usage_option
        if plan.traffic.objective_s is not None:
            answer.objective_at = now + plan.traffic.objective_s
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
