"""The ways an attempt can fail that only the life of a request knows, and their names in records."""

from typing import Final

from router.base.errors import (
    ClientGoneError,
    ConnectError,
    PlacementViolationError,
    Retry,
    RouterError,
    StaleConnectionError,
    UpstreamError,
    UpstreamTimeoutError,
)
from router.providers.dialect import Fault, Judgement
from router.proxy.answer import Answer
from router.proxy.backend import Target


class FailedAnswerError(UpstreamError):
    """The deployment answered, and its answer says that another one should be asked."""

    def __init__(self, message: str, judgement: Judgement, target: Target, *, status: int, body: bytes = b"") -> None:
        super().__init__(message)
        self.judgement = judgement
        self.target = target
        self.status = status
        self.body = body  # what the client sees if nobody else does better

    @property
    def is_flow_control(self) -> bool:
        """A 429 did no work, and parks the deployment: going elsewhere at once is what the clouds advise."""
        return self.judgement.kind is Fault.THROTTLED or self.judgement.too_many


class WithdrawnError(UpstreamError):
    """A reload took the permission for this deployment away before anything was sent to it."""

    retry = Retry.SAFE


class IdentityLostError(UpstreamError):
    """We could not sign the request: nothing was sent."""

    retry = Retry.SAFE


class SlowError(UpstreamError):
    """The first event did not come within the workload's objective, and another deployment may be asked."""


class HedgeLostError(UpstreamError):
    """The other copy of the request was faster."""


def total_passed() -> RouterError:
    """The error of a request that took all the time that it has, wherever it waits."""
    return UpstreamTimeoutError("The request took longer than it may.")


def raise_for(answer: Answer) -> None:
    """Turns a decided answer that should be tried elsewhere into its error."""
    if answer.committed:
        return
    target = answer.target
    if answer.in_error:
        assert answer.watch is not None
        judgement = target.judge_event(answer.watch.error)
        if judgement.retry:
            raise FailedAnswerError("The deployment's stream began with an error.", judgement, target, status=200)
        answer.committed = True  # the client's own error: it gets to see it
        return
    if answer.error is not None:
        raise answer.error
    assert answer.head is not None
    if answer.succeeded:
        raise UpstreamError("The deployment's stream ended before its first content.")
    body = answer.held_body()
    judgement = target.judge(answer.head.status, answer.head.fields, body)
    if judgement.retry:
        raise FailedAnswerError("The deployment failed.", judgement, target, status=answer.head.status, body=body)


_OUTCOMES: Final[dict[type[RouterError], str]] = {
    ConnectError: "connect",
    StaleConnectionError: "stale",
    UpstreamTimeoutError: "timeout",
    ClientGoneError: "client_gone",
    PlacementViolationError: "violation",
    WithdrawnError: "withdrawn",
    IdentityLostError: "credential",
    SlowError: "slow",
    HedgeLostError: "hedge_lost",
}


def outcome_of(error: RouterError) -> str:
    """The attempt's outcome in the words of `AttemptRecord`."""
    if isinstance(error, FailedAnswerError):
        return error.judgement.kind.value
    if error.code == "upstream_invalid":
        return "invalid"
    return _OUTCOMES.get(type(error), "broken")
