"""From a plan to an answer: one deployment after the other is asked, up to the commit point of one answer."""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeAlias

from router.base.errors import Retry, RouterError, UpstreamError
from router.model.plan import Permit
from router.proxy.answer import Answer
from router.proxy.asking import ask
from router.proxy.choice import choose, record_departure
from router.proxy.context import Attempt, Context
from router.proxy.ending import begin_attempt, first_byte_came
from router.proxy.exhaustion import exhausted
from router.proxy.failures import FailedAnswerError
from router.proxy.hedging import ask_hedged
from router.proxy.runtime import Runtime
from router.proxy.waiting import take_turn, wait_for_target
from router.transport.fiber import Parking

AskOne: TypeAlias = Callable[[Context, Runtime, Attempt, Permit, Parking], Awaitable[Answer]]


async def first_answer(ctx: Context, rt: Runtime, ask_one: AskOne = ask) -> Answer:
    """Tries one deployment after the other, up to the commit point of an answer. `ask_one`: how each is asked.

    Raises RefusedError where none may be tried, and the last attempt's error where none did better.
    """
    plan = ctx.plan
    assert plan is not None
    traffic = plan.traffic
    last: RouterError | None = None
    now = monotonic()
    traffic.retries.request(now)
    while True:
        # Until a request has waited, what held at its begin holds: it is served in one go.
        permit = plan.permit if not ctx.inbound.waited_s and ctx.snapshot is rt.snapshot else rt.permit(ctx)
        others = plan.queue if rt.waiting.count else None
        target = choose(ctx, permit, now, others)
        if target is None:
            target = await wait_for_target(ctx, rt)
            if target is None:
                raise exhausted(ctx, last)
            permit, now = rt.permit(ctx), monotonic()
        elif others is not None:
            take_turn(ctx, target)
        if plan.holder and target.cloud != plan.holder and not ctx.left_holder:
            record_departure(ctx, rt, target)
        try:
            if traffic.hedging is not None and ask_one is ask:
                return await ask_hedged(ctx, rt, target, permit)
            attempt = ctx.attempt = begin_attempt(ctx, target, now)
            answer = await ask_one(ctx, rt, attempt, permit, ctx.inbound)
            first_byte_came(ctx, attempt)
            return answer
        except UpstreamError as error:
            last = error.with_traceback(None)  # it leads to this frame, and this to it: a cycle
            now = monotonic()
            if not _may_retry(ctx, error, now):
                raise exhausted(ctx, error) from None


def _may_retry(ctx: Context, error: UpstreamError, now: float) -> bool:
    """Whether another attempt is right, by the request's own bounds and by its workload's retry budget."""
    plan = ctx.plan
    assert plan is not None
    if not ctx.budget.failed(error.retry) or now >= ctx.total_at:
        return False
    if error.retry is Retry.SAFE or (isinstance(error, FailedAnswerError) and error.is_flow_control):
        return True
    if not plan.traffic.retries.spend(now):
        return False
    plan.traffic.retried += 1
    return True
