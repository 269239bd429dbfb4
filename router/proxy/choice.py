"""Which deployment is asked next, and why the others are not: the second of the three barriers."""

from collections.abc import Sequence
from math import inf

from router.base.errors import PlacementViolationError, RefusedError
from router.model.decision import Leave, Offer
from router.model.plan import Permit
from router.model.policy import Priority
from router.proxy.backend import Backend, Target
from router.proxy.context import Context
from router.proxy.fleet import Tier
from router.proxy.queues import Queue
from router.proxy.runtime import Runtime


def choose(ctx: Context, permit: Permit, now: float, others: Queue | None = None) -> Target | None:
    """Picks from the first tier that has a deployment which may be asked; None where no tier has.

    A tier is passed only when each of its deployments has a reason in `ctx.refusals`. `others`: those who wait
    already, whom this request does not overtake unless it is more important.
    """
    plan, facts = ctx.plan, ctx.facts
    assert plan is not None
    assert facts is not None
    if others is None and not ctx.refusals and plan.tiers:
        # Usual: the first that is looked at may be asked. What is not so is looked at in order, below.
        tier = plan.tiers[0]
        able = tier.able(now)
        if able:
            first = tier.balancer.pick(able, facts, now) if len(able) > 1 else able[0]
            backend = first.backend
            if (
                first.cloud in permit.clouds
                and not backend.refusal_of(ctx.tokens, now)
                and backend.quota.shares is None
            ):
                ctx.tier = 0
                return first
    for index, tier in enumerate(plan.tiers):
        if ctx.holder_failures and index < plan.holder_tiers and _holder_has_failed(ctx, tier):
            continue
        target = _pick(ctx, tier, permit, now, others)
        if target is not None:
            ctx.tier = index
            return target
    return None


def importance(ctx: Context) -> Priority:
    """Of this request: its key's, or else its workload's."""
    plan, key = ctx.plan, ctx.caller.key
    assert plan is not None
    assert key is not None
    return key.priority if key.priority is not None else plan.traffic.policy.priority


def refusal_of(ctx: Context, backend: Backend, now: float) -> str:
    """Why this one request may not be sent there at this moment; empty where it may."""
    why = backend.refusal_of(ctx.tokens, now)
    if not why and backend.quota.shares is not None and _share_wait_s(ctx, backend, now):
        return "over_quota"
    return why


def wait_s(ctx: Context, backend: Backend, now: float) -> float:
    """Seconds until it may be, as far as that is known; infinity where it is not."""
    known_s = backend.wait_s(ctx.tokens, now)
    if backend.quota.shares is None or backend.refusal(now):
        return known_s
    share_s = _share_wait_s(ctx, backend, now)
    if not share_s:
        return known_s
    return max(share_s, known_s) if known_s < inf else share_s


def may_choose(ctx: Context, permit: Permit, now: float, slow: Target) -> bool:
    """Whether another deployment could be asked at this moment, were the attempt at `slow` given up. Notes nothing."""
    plan = ctx.plan
    assert plan is not None
    running = {attempt.target for attempt in (ctx.attempt, ctx.hedge) if attempt is not None}
    holder_is_done = slow.cloud == plan.holder and ctx.holder_failures + 1 >= plan.traffic.policy.holder_attempts
    return any(
        target not in ctx.refusals
        and target not in running
        and permit.allows(target.cloud)
        and not (holder_is_done and target.cloud == plan.holder)
        and not target.backend.refusal(now)
        and not refusal_of(ctx, target.backend, now)
        for target in plan.targets()
    )


def choose_hedge(ctx: Context, permit: Permit, now: float, others: Queue | None) -> Target | None:
    """Picks a second deployment of the running attempt's tier, for which none of the `others` waits.

    Nobody is refused anything by it.
    """
    plan, running = ctx.plan, ctx.attempt
    assert plan is not None
    assert running is not None
    tier = plan.tiers[ctx.tier]
    able = [
        target
        for target in tier.able(now)
        if target is not running.target
        and target not in ctx.refusals
        and permit.allows(target.cloud)
        and not refusal_of(ctx, target.backend, now)
        and (others is None or not others.promised(target.backend, Priority.LOW, now))
    ]
    assert ctx.facts is not None
    return tier.balancer.pick(able, ctx.facts, now) if able else None


def record_departure(ctx: Context, rt: Runtime, target: Target) -> None:
    """Writes down why the holder did not serve, before another cloud is dialled.

    Raises PlacementViolationError where a deployment of the holder has no reason: our bug, and nothing is sent.
    Raises RefusedError where the log cannot take the record: the promise is worth more than the answer.
    """
    plan, key = ctx.plan, ctx.caller.key
    assert plan is not None
    assert key is not None
    # What a request names is stored elsewhere: none of these could serve it.
    offers = [Offer(held.id, held.cloud, "no_deployment") for held in plan.absent]
    if not offers and not plan.holder_tiers:
        offers.append(Offer("", plan.holder, "no_deployment"))
    for tier in plan.tiers[: plan.holder_tiers]:
        for held in tier.targets:
            why = ctx.refusals.get(held)
            if why is None:
                raise PlacementViolationError("The request was about to pass over the cloud that is asked first.")
            offers.append(Offer(held.id, held.cloud, why))
    model, operation, reason, rule_version = plan.labels
    recorded = rt.decisions.write(
        Leave(
            request=ctx.id,
            at=rt.clock.wall(),
            key=key.name,
            workload=key.workload,
            model=model,
            operation=operation,
            rule=reason,
            rule_version=rule_version,
            offers=tuple(offers),
            to=target.id,
            to_cloud=target.cloud,
        )
    )
    if not recorded:
        raise RefusedError(
            "The router cannot record why this request would be served elsewhere, so it is not. Retry in a second.",
            code="decision_log_full",
            headers={"retry-after": "1", "retry-after-ms": "1000"},
        )
    ctx.left_holder = True


def _pick(ctx: Context, tier: Tier, permit: Permit, now: float, others: Queue | None) -> Target | None:
    facts, refusals = ctx.facts, ctx.refusals
    assert facts is not None
    able: Sequence[Target] = tier.able(now)
    if refusals:
        able = [target for target in able if target not in refusals]
    while able or (able := _unexplained(ctx, tier, now)):
        target = tier.balancer.pick(able, facts, now)
        if permit.allows(target.cloud):
            backend = target.backend
            why = refusal_of(ctx, backend, now)
            if not why:
                if others is None or not others.promised(backend, importance(ctx), now):
                    return target
                why = "busy"
            if why == "over_quota":
                backend.avoided += 1
                _turned_away(ctx, backend, now)
        else:
            why = "no_deployment"  # a reload took it away from this request
        refusals[target] = why
        able = [other for other in able if other is not target]
    return None


def _share_wait_s(ctx: Context, backend: Backend, now: float) -> float:
    key = ctx.caller.key
    assert key is not None
    return backend.quota.share_wait_s(key.name, key.weight, importance(ctx), ctx.tokens, now)


def _turned_away(ctx: Context, backend: Backend, now: float) -> None:
    key = ctx.caller.key
    assert key is not None
    backend.quota.turned_away(key.name, key.weight, importance(ctx), ctx.tokens, now)


def _unexplained(ctx: Context, tier: Tier, now: float) -> list[Target]:
    """Notes the standing refusals of a tier that is about to be passed; returns those that have none after all."""
    missed = []
    for target in tier.targets:
        if target not in ctx.refusals:
            why = target.backend.refusal(now)
            if why:
                ctx.refusals[target] = why
                if why == "throttled":
                    _turned_away(ctx, target.backend, now)
            else:
                missed.append(target)
    return missed


def _holder_has_failed(ctx: Context, tier: Tier) -> bool:
    """After so many failed sends to the holder its other deployments count as failed."""
    plan = ctx.plan
    assert plan is not None
    if ctx.holder_failures < plan.traffic.policy.holder_attempts:
        return False
    for target in tier.targets:
        ctx.refusals.setdefault(target, "failed")
    return True
