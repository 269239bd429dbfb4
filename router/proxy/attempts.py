"""From a plan to an answer: which deployment is next, one send to it, and what its failure means."""

from time import monotonic
from typing import Final

from router.base.errors import (
    ClientGoneError,
    ConnectError,
    PlacementViolationError,
    RefusedError,
    Retry,
    RouterError,
    StaleConnectionError,
    ThrottledError,
    UpstreamError,
    UpstreamTimeoutError,
)
from router.model.plan import Permit
from router.providers.dialect import Fault, Judgement
from router.providers.errors import client_error
from router.proxy.answer import Answer
from router.proxy.context import Context
from router.proxy.fleet import Backend, Target
from router.proxy.outgoing import request_parts
from router.proxy.replies import retry_after
from router.proxy.runtime import Runtime
from router.transport.upstream import UpstreamConnection

NO_WAIT_KNOWN_S: Final = 1.0
_UNTRIED: Final = "untried after the attempts that a request has"


class FailedAnswerError(UpstreamError):
    """The deployment answered, and its answer says that another one should be asked."""

    def __init__(self, message: str, judgement: Judgement, *, status: int, body: bytes = b"") -> None:
        super().__init__(message)
        self.judgement = judgement
        self.status = status
        self.body = body  # what the client sees if nobody else does better


class WithdrawnError(UpstreamError):
    """A reload took the permission for this deployment away before anything was sent to it."""

    retry = Retry.SAFE


async def first_answer(ctx: Context, rt: Runtime) -> Answer:
    """Tries one deployment after the other, up to the commit point of an answer.

    Raises RefusedError where none may be tried, and the last attempt's error where none did better.
    """
    assert ctx.plan is not None
    last: RouterError | None = None
    while True:
        permit = rt.permit(ctx)
        target = next_target(ctx, rt, permit)
        if target is None:
            raise exhausted(ctx, last)
        try:
            return await _attempt(ctx, rt, target)
        except UpstreamError as error:
            last = error.with_traceback(None)  # it leads to this frame, and this to it: a cycle
            if not ctx.budget.failed(error.retry) or monotonic() >= ctx.total_at:
                raise exhausted(ctx, error) from None


def next_target(ctx: Context, rt: Runtime, permit: Permit) -> Target | None:
    """Picks a deployment of the first tier that has one which may be asked. The second of the three barriers."""
    assert ctx.plan is not None
    now = monotonic()
    for tier in ctx.plan.tiers:
        able = [
            target
            for target in tier
            if permit.allows(target.cloud) and not target.backend.refusal(now) and target.backend not in ctx.tried
        ]
        if len(able) > 1:
            able = [target for target in able if now >= target.backend.failing.until] or able
        if able:
            return rt.balancer.pick(able)
    return None


async def _attempt(ctx: Context, rt: Runtime, target: Target) -> Answer:
    """One send to one deployment, resent once where a reused connection turned out to be dead."""
    attempt = ctx.begin_attempt(target)
    resent = False
    try:
        # Before a connection is taken: from then on nothing but the send may fail.
        parts = request_parts(ctx, target)
        while True:
            # What was idle beside a dead connection may be as dead: the resend goes on a fresh one.
            connection = target.backend.pool.take(_permit(ctx, rt, target)) if not resent else None
            attempt.reused = connection is not None
            if connection is None:
                connection = await _dialled(ctx, rt, target)
            answer = attempt.answer = _answer(ctx, target)
            answer.bind(connection)
            try:
                # The permit is asked for again: a reload may have come while the connection was dialled.
                connection.send(_permit(ctx, rt, target), parts, answer)
                while not answer.decided:
                    await ctx.inbound.park(answer.look_again_at, answer.late)
                _raise_for(answer)
                return answer
            except StaleConnectionError as error:
                if not ctx.budget.allows_resend():
                    raise
                resent = True
                attempt.answer = None
                error.with_traceback(None)  # the answer holds it, and it the frames that hold the answer
    except RouterError as error:
        outcome = outcome_of(error)
        if attempt.answer is not None:
            attempt.answer.abort()
        ctx.end_attempt(outcome, monotonic())
        rt.attempt_failed(target.backend, outcome, error)
        raise


def _permit(ctx: Context, rt: Runtime, target: Target) -> Permit:
    """What the request may use at this moment. Raises WithdrawnError where a reload took the target's cloud away."""
    permit = rt.permit(ctx)
    if not permit.allows(target.cloud):
        raise WithdrawnError("The deployment is no longer one that this request may use.")
    return permit


async def _dialled(ctx: Context, rt: Runtime, target: Target) -> UpstreamConnection:
    """Waits for a new connection. Raises ConnectError, WithdrawnError, ClientGoneError."""
    inbound = ctx.inbound
    dial = target.backend.pool.dial(_permit(ctx, rt, target), inbound.wake)
    try:
        while not dial.done:
            await inbound.park(ctx.total_at, _total_passed)
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
    facts = ctx.facts
    assert facts is not None
    now = monotonic()
    timeouts = target.backend.deployment.endpoint.timeouts
    commit_s = min(timeouts.commit_stream_s if facts.stream else timeouts.commit_json_s, ctx.patience_s)
    hide_usage = facts.usage_at is not None and target.route.usage_option
    give_up_at = min(now + commit_s, ctx.total_at)
    return Answer(ctx.inbound, target, timeouts, facts.stream, hide_usage, give_up_at, ctx.total_at, now)


def _total_passed() -> RouterError:
    return UpstreamTimeoutError("The request took longer than it may.")


def _raise_for(answer: Answer) -> None:
    """Turns an answer that should be tried elsewhere into its error."""
    target = answer.target
    if answer.in_error:
        assert answer.watch is not None
        judgement = target.judge_event(answer.watch.error)
        if judgement.retry:
            raise FailedAnswerError("The deployment's stream began with an error.", judgement, status=200)
        answer.committed = True  # the client's own error: it gets to see it
        return
    if answer.error is not None and not answer.committed:
        raise answer.error
    if answer.committed:
        return
    assert answer.head is not None
    if answer.succeeded:
        raise UpstreamError("The deployment's stream ended before its first content.")
    body = answer.held_body()
    judgement = target.judge(answer.head.status, answer.head.fields, body)
    if judgement.retry:
        raise FailedAnswerError("The deployment failed.", judgement, status=answer.head.status, body=body)


_OUTCOMES: Final[dict[type[RouterError], str]] = {
    ConnectError: "connect",
    StaleConnectionError: "stale",
    UpstreamTimeoutError: "timeout",
    ClientGoneError: "client_gone",
    PlacementViolationError: "violation",
    WithdrawnError: "withdrawn",
}


def outcome_of(error: RouterError) -> str:
    """The attempt's outcome in the words of `AttemptRecord`."""
    if isinstance(error, FailedAnswerError):
        return error.judgement.kind.value
    if error.code == "upstream_invalid":
        return "invalid"
    return _OUTCOMES.get(type(error), "broken")


def exhausted(ctx: Context, last: RouterError | None) -> RouterError:
    """The error when nobody is asked any more: 429 where every reason is throttling, else 503 or the last answer's own.

    Where a deployment was left untried, because the request has had its attempts, the wait is none.
    """
    assert ctx.plan is not None
    now = monotonic()
    backends = [target.backend for target in ctx.plan.targets()]
    reasons = [_reason(ctx, backend, now) for backend in backends]
    waits = [wait for wait in (backend.wait_s(now) for backend in backends) if wait > 0]
    headers = retry_after(0.0 if _UNTRIED in reasons else min(waits, default=NO_WAIT_KNOWN_S))
    if reasons and all(reason == "throttled" for reason in reasons):
        return ThrottledError("The capacity for this model is used up for now. Retry after the wait.", headers=headers)
    if isinstance(last, FailedAnswerError):
        if last.judgement.kind is not Fault.THROTTLED:
            return _as_client_sees(last, ctx, headers)
    elif last is not None:
        last.headers = headers
        return last
    return RefusedError(
        f"No deployment can serve this model now ({_counted(reasons)}).", code="no_capacity", headers=headers
    )


class PassedError(RouterError):
    """An upstream's last word, in the shape that the client gets."""

    def __init__(self, message: str, status: int, body: bytes, headers: dict[str, str]) -> None:
        super().__init__(message, code="upstream_error", headers=headers)
        self.status = status
        self.body = body


def _as_client_sees(last: FailedAnswerError, ctx: Context, headers: dict[str, str]) -> RouterError:
    deployment = ctx.tried[-1].deployment
    status = last.status if last.status >= 300 else 502
    shown = client_error(status, last.body, last.judgement, deployment, reveal=ctx.reveal)
    return PassedError(last.message, shown.status, shown.body, headers)


def _reason(ctx: Context, backend: Backend, now: float) -> str:
    return backend.refusal(now) or ("failed" if backend in ctx.tried else _UNTRIED)


def _counted(reasons: list[str]) -> str:
    counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
