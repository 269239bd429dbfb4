"""An attempt's begin, its first byte and its end: what each means for the deployment that was asked."""

from math import inf
from typing import Final

from router.balancing.meter import tokens_of
from router.base.errors import Retry, RouterError
from router.limits.minute_shares import MinuteShares
from router.proxy.backend import Backend, Target
from router.proxy.choice import importance
from router.proxy.context import Attempt, Context
from router.proxy.failures import FailedAnswerError
from router.proxy.runtime import Runtime

# A thousand first bytes a second say as much of a deployment's speed as ten thousand would.
SAMPLE_S: Final = 0.001
# Outcomes that say nothing about a deployment's health.
_SAY_NOTHING: Final = frozenset({"answered", "client_gone", "hedge_lost", "withdrawn", "violation", "slow"})
_SURELY_OURS: Final = frozenset({401, 402, 407, 429})  # no key, or no money
# How a failed attempt stands among the refusals; what is not here has failed.
_REFUSED_AS: Final = {"throttled": "throttled", "slow": "slow", "withdrawn": "no_deployment"}


def begin_attempt(ctx: Context, target: Target, now: float) -> Attempt:
    """Takes what an attempt needs of its deployment, until `end_attempt`."""
    facts, backend = ctx.facts, target.backend
    assert facts is not None
    health = backend.health
    if health.clear:
        attempt = Attempt(target, tokens_of(facts), health.breaker.epoch, now)
    else:
        attempt = Attempt(target, tokens_of(facts), health.begin(now), now)
        backend.standing.changed()  # a probe's slot is taken
    backend.in_flight += 1
    if facts.stream:
        backend.unanswered[attempt] = now
    backend.meter.begin(attempt.tokens)
    twin = backend.quota.twin
    if twin is not None:
        # Now and not when it is sent: a whole burst is placed before its first connection stands.
        twin.charge(ctx.tokens, now)
        if backend.quota.shares is not None:
            _use(ctx, backend.quota.shares, ctx.tokens)
    return attempt


def first_byte_came(ctx: Context, attempt: Attempt) -> None:
    """The answer's head is here and good: what it teaches about the deployment's speed and limits."""
    answer = attempt.answer
    facts = ctx.facts
    assert answer is not None
    assert answer.head is not None
    assert facts is not None
    backend = attempt.target.backend
    now = answer.first_byte_at
    first_byte_s = now - answer.sent_at
    # To refuse a client is quick, and says nothing of how quick it is to serve one.
    if answer.succeeded and now >= backend.sample_at:
        backend.sample_at = now + SAMPLE_S
        backend.meter.observe(first_byte_s, facts, now)
        backend.limit.observe(first_byte_s, backend.in_flight, now)
    if answer.succeeded and not backend.health.clear:
        # A probe has told what it was sent for: a stream may take minutes more, and others wait for the verdict.
        backend.health.succeeded(attempt.health_permit, now)
        backend.standing.changed()
    twin = backend.quota.twin
    if twin is not None:
        if 400 <= answer.head.status < 500:  # the client's own error: nothing was generated
            twin.refund(ctx.tokens - facts.prompt_tokens, now)
        twin.answered(answer.head.fields, answer.head.status, now)
    if facts.stream:
        backend.unanswered.pop(attempt, None)
        if answer.is_stream:
            backend.meter.progress(facts.prompt_tokens)  # it has been read
            attempt.tokens = attempt.completion_tokens = max(0.0, attempt.tokens - facts.prompt_tokens)
            backend.streaming[attempt] = ctx.inbound


def end_attempt(
    ctx: Context, rt: Runtime, attempt: Attempt, outcome: str, now: float, error: RouterError | None = None
) -> None:
    """Gives back what `begin_attempt` took, and lets the deployment bear what its failure means."""
    backend, facts = attempt.target.backend, ctx.facts
    assert facts is not None
    backend.in_flight -= 1
    if facts.stream:
        backend.unanswered.pop(attempt, None)
        backend.streaming.pop(attempt, None)
    backend.meter.end(attempt.tokens, now)
    if error is not None and error.retry is Retry.SAFE and backend.quota.twin is not None:
        backend.quota.twin.refund(ctx.tokens, now)  # nothing was sent
        if backend.quota.shares is not None:
            _use(ctx, backend.quota.shares, -ctx.tokens)
    ctx.attempts.append(attempt.record(outcome, now, ctx.inbound.started_at, facts.prompt_tokens))
    if outcome == "served":
        health = backend.health
        if not health.clear:
            backend.standing.changed()  # a probe's slot is free, or it is back
        health.succeeded(attempt.health_permit, now)
    else:
        _bear(ctx, rt, attempt, outcome, now, error)
    if rt.waiting.count and ctx.plan is not None:
        if ctx.turn is not None and outcome != "hedge_lost":
            usage = ctx.attempts[-1].usage
            taken = usage.prompt_tokens + usage.completion_tokens if usage is not None else 0
            ctx.plan.queue.make_good(ctx.turn, importance(ctx), taken - ctx.tokens)
            ctx.turn = None
        rt.waiting.capacity_came(ctx.plan.queue)


def _use(ctx: Context, shares: MinuteShares, tokens: int) -> None:
    key = ctx.caller.key
    assert key is not None
    shares.charge(key.name, key.weight, importance(ctx), tokens)


def _bear(ctx: Context, rt: Runtime, attempt: Attempt, outcome: str, now: float, error: RouterError | None) -> None:
    target = attempt.target
    backend = target.backend
    health = backend.health
    backend.standing.changed()
    judgement = error.judgement if isinstance(error, FailedAnswerError) else None
    wait_s = judgement.wait_s if judgement is not None else None
    too_many = judgement is not None and judgement.too_many
    if ctx.answer is None and outcome not in ("answered", "client_gone", "hedge_lost", "violation"):
        ctx.tried.append(target)
        ctx.refusals[target] = "busy" if too_many else _REFUSED_AS.get(outcome, "failed")
        plan = ctx.plan
        if plan is not None and target.cloud == plan.holder and outcome != "withdrawn":
            ctx.holder_failures += 1
    if outcome in _SAY_NOTHING:
        health.ignored(attempt.health_permit, now)
        if outcome == "slow":
            assert ctx.facts is not None
            backend.meter.observe(now - attempt.began, ctx.facts, now)  # at least so slow
        elif outcome == "violation":
            rt.violations += 1
            rt.books.event("placement_violation", deployment=target.id)
        return
    if outcome == "throttled":
        health.ignored(attempt.health_permit, now)
        _throttled(rt, backend, wait_s, now)
    elif outcome == "credential" and _is_of_the_request(rt, backend, error):
        rt.credential_refused(backend, now, condemn=False)
        _failed(rt, backend, attempt, outcome, now)
    elif outcome == "credential":
        health.ignored(attempt.health_permit, now)
        rt.credential_refused(backend, now)
    elif too_many:
        health.ignored(attempt.health_permit, now)
        backend.limit.dropped(backend.in_flight + 1, now, too_many=True)
    elif outcome == "missing" or (outcome == "overloaded" and wait_s is not None):
        health.ignored(attempt.health_permit, now)
        if outcome == "overloaded":
            backend.limit.dropped(backend.in_flight, now)
        if backend.cooldown.start(outcome, wait_s, now):
            _tell(rt, backend, outcome, backend.cooldown.left_s(now))
    else:
        _failed(rt, backend, attempt, outcome, now)


def _is_of_the_request(rt: Runtime, backend: Backend, error: RouterError | None) -> bool:
    """Whether the refusal may be of what a client named (a file in a bucket, a feature), and not of our credential.

    Only a 401 is sure: a 403 where others are served with the same credential counts as this deployment's failure, lest
    one request in half a minute keep an endpoint from everybody.
    """
    if not isinstance(error, FailedAnswerError) or error.status in _SURELY_OURS:
        return False
    return any(member.health.window.served for member in (backend, *rt.fleet.siblings(backend)))


def _throttled(rt: Runtime, backend: Backend, wait_s: float | None, now: float) -> None:
    """A 429 is a word about quota: everybody who draws on it waits."""
    quota = backend.quota
    if quota.twin is not None:
        quota.twin.refused(wait_s, now)
    if quota.cooldown.start("throttled", wait_s, now):
        _tell(rt, backend, "throttled", quota.cooldown.left_s(now))


def _failed(rt: Runtime, backend: Backend, attempt: Attempt, outcome: str, now: float) -> None:
    backend.meter.failed(now)
    if outcome in ("timeout", "overloaded"):
        backend.limit.dropped(backend.in_flight, now)
    event = backend.health.failed(attempt.health_permit, outcome, now)
    if event:
        _tell_health(rt, backend, event, outcome, now)
    if outcome == "connect":  # that is its endpoint's fault: the others there had better not be asked one by one
        for sibling in rt.fleet.siblings(backend):
            sibling.meter.failed(now)
            if sibling.health.clear and (event := sibling.health.failed(sibling.health.begin(now), outcome, now)):
                _tell_health(rt, sibling, event, outcome, now)


def _tell(rt: Runtime, backend: Backend, reason: str, wait_s: float) -> None:
    rt.books.event("cooldown", deployment=backend.deployment.id, reason=reason, wait_s=round(wait_s, 3))


def _tell_health(rt: Runtime, backend: Backend, event: str, reason: str, now: float) -> None:
    until = backend.health.verdict(now).until
    rt.books.event(
        "health",
        deployment=backend.deployment.id,
        change=event,
        reason=reason,
        wait_s=round(until - now, 3) if until != inf else None,
    )
