"""Requests for which nothing is free wait here, in the order of their importance, and not for long."""

from math import inf
from time import monotonic

from router.proxy.backend import Target
from router.proxy.choice import choose, importance, refusal_of, wait_s
from router.proxy.context import Context
from router.proxy.runtime import Runtime


async def wait_for_target(ctx: Context, rt: Runtime) -> Target | None:
    """Waits in the plan's room until a deployment may be asked; None where none can be in time.

    Raises ClientGoneError, UnauthorizedError (a reload took the key away).
    """
    plan, key = ctx.plan, ctx.caller.key
    assert plan is not None
    assert key is not None
    room = plan.room
    now = began = monotonic()
    if not ctx.wait_until:
        ctx.wait_until = min(now + plan.traffic.max_wait_s, ctx.total_at)
    until = ctx.wait_until
    known_s = _wait_known_s(ctx, rt, now)
    if now + known_s >= until:
        return None
    ticket = room.enter(key.name, key.weight, importance(ctx), until, ctx.inbound.wake)
    if ticket is None:
        return None
    room.postpone(ticket, now + known_s if known_s else 0.0)
    rt.waiting.entered(plan.queue)
    target: Target | None = None
    try:
        while target is None and not ticket.evicted:
            await ctx.inbound.park(until, _nothing)
            now = monotonic()
            if ticket.evicted or now >= until:
                break
            _forget_what_may_have_changed(ctx)
            target = choose(ctx, rt.permit(ctx), now)
            if target is None:
                known_s = _wait_known_s(ctx, rt, now)
                if now + known_s >= until:
                    break  # what it waited for is gone, or will not be there in time any more
                room.postpone(ticket, now + known_s if known_s else 0.0)
        if target is not None:
            take_turn(ctx, target)
    finally:
        now = monotonic()
        ctx.queued_s += now - began
        room.leave(ticket)
        rt.waiting.left()
    return target


def take_turn(ctx: Context, target: Target) -> None:
    """Counts what is about to begin for its key, where others wait for the same deployment."""
    plan, key = ctx.plan, ctx.caller.key
    assert plan is not None
    assert key is not None
    ctx.turn = plan.queue.began(key.name, key.weight, importance(ctx), target.backend, ctx.tokens)


def _wait_known_s(ctx: Context, rt: Runtime, now: float) -> float:
    """Seconds until a deployment that was not asked yet may be asked at the earliest; infinity where none will."""
    assert ctx.plan is not None
    permit = rt.permit(ctx)
    waits = [inf]
    for target in ctx.plan.targets():
        if target not in ctx.tried and permit.allows(target.cloud):
            backend = target.backend
            if backend.refusal(now) or refusal_of(ctx, backend, now) == "over_quota":
                waits.append(0.0 if backend.probed_now(now) else wait_s(ctx, backend, now))
            else:
                waits.append(0.0)  # whenever a running request ends
    return min(waits)


def _forget_what_may_have_changed(ctx: Context) -> None:
    """Keeps the refusals of those that were asked; the others are looked at again."""
    ctx.refusals = {target: why for target, why in ctx.refusals.items() if target in ctx.tried}


def _nothing() -> None:
    """Passing the deadline is a wake like any other."""
