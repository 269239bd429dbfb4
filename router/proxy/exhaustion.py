"""What a client is told when nobody is asked any more."""

from math import inf
from time import monotonic
from typing import Final

from router.base.errors import RefusedError, Retry, RouterError, ThrottledError
from router.providers.errors import client_error
from router.proxy.backend import Target
from router.proxy.choice import wait_s
from router.proxy.context import Context
from router.proxy.failures import FailedAnswerError
from router.proxy.replies import retry_after

NO_WAIT_KNOWN_S: Final = 1.0
_UNTRIED: Final = "untried after the attempts that a request has"
_THROTTLING: Final = frozenset({"throttled", "over_quota"})


class PassedError(RouterError):
    """An upstream's last word, in the shape that the client gets."""

    def __init__(self, message: str, status: int, body: bytes, headers: dict[str, str]) -> None:
        super().__init__(message, code="upstream_error", headers=headers)
        self.status = status
        self.body = body


def exhausted(ctx: Context, last: RouterError | None) -> RouterError:
    """The error when nobody is asked any more: 429 where every reason is throttling, else 503 or the last answer's own.

    Where a deployment was left untried, because the request has had its attempts, the wait is none.
    """
    plan = ctx.plan
    assert plan is not None
    now = monotonic()
    reasons = [_reason(ctx, target, now) for target in plan.targets()]
    waits = [_wait_s(ctx, target, now) for target in plan.targets()]
    known_s = min((wait for wait in waits if wait < inf), default=NO_WAIT_KNOWN_S)
    headers = retry_after(0.0 if _UNTRIED in reasons else known_s)
    if reasons and _THROTTLING.issuperset(reasons):
        return ThrottledError("The capacity for this model is used up for now. Retry after the wait.", headers=headers)
    passed_over = [why for target, why in ctx.refusals.items() if target not in ctx.tried and why != "no_deployment"]
    if plan.home and (last is None or last.retry is Retry.SAFE):
        return RefusedError(
            f"What the request names is stored where nobody can serve it now ({_counted(reasons)}).",
            code="home_unavailable",
            headers=headers,
        )
    if passed_over:
        last = None  # more is wrong than what the last attempt met
    if isinstance(last, FailedAnswerError):
        if not last.is_flow_control:
            return _as_client_sees(last, ctx, headers)
    elif last is not None:
        last.headers = headers
        return last
    return RefusedError(
        f"No deployment can serve this model now ({_counted(reasons)}).", code="no_capacity", headers=headers
    )


def _as_client_sees(last: FailedAnswerError, ctx: Context, headers: dict[str, str]) -> RouterError:
    deployment = last.target.backend.deployment
    status = last.status if last.status >= 300 else 502
    shown = client_error(status, last.body, last.judgement, deployment, reveal=ctx.caller.reveal)
    return PassedError(last.message, shown.status, shown.body, headers)


def _reason(ctx: Context, target: Target, now: float) -> str:
    return target.backend.refusal(now) or ctx.refusals.get(target, _UNTRIED)


def _wait_s(ctx: Context, target: Target, now: float) -> float:
    """Seconds until the deployment may be asked, as far as that is known; one that was busy, or failed, any moment."""
    known_s = wait_s(ctx, target.backend, now)
    return NO_WAIT_KNOWN_S if known_s == inf and not target.backend.refusal(now) else known_s


def _counted(reasons: list[str]) -> str:
    counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
