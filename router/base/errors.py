"""Errors that carry the decision: who is at fault, what the client sees, whether another attempt is right.

Library exceptions become one of these at the edge of `transport/`; the rooms above meet no others.
"""

import enum
from collections.abc import Mapping


class Retry(enum.Enum):
    """What an error permits."""

    SAFE = "safe"  # nothing was sent: free
    PAID = "paid"  # sent, may be billed: counts as an attempt
    NEVER = "never"  # another attempt would be wrong


class Origin(enum.Enum):
    """Who is at fault, so who is counted."""

    CLIENT = "client"
    ROUTER = "router"
    BACKEND = "backend"


class RouterError(Exception):
    """Something that ends a request or an attempt.

    `message` is written for the client: what happened and what to do, never a secret or an upstream's address.
    """

    status = 500
    type = "server_error"
    code = "internal_error"
    param: str | None = None
    origin = Origin.ROUTER
    retry = Retry.NEVER
    close = False  # the connection to the client cannot be used after it

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if param is not None:
            self.param = param
        self.headers: Mapping[str, str] = headers or {}


class InvalidRequestError(RouterError):
    """The request cannot be served as it is written."""

    status, type, code, origin = 400, "invalid_request_error", "invalid_request", Origin.CLIENT


class MalformedHttpError(InvalidRequestError):
    """The bytes are not the HTTP/1.1 that we accept; nothing after them can be trusted."""

    code, close = "malformed_http", True

    def __init__(self, message: str, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status


class UnauthorizedError(RouterError):
    """No key, an unknown key, or two different ones: one text for all, so that it tells nothing."""

    status, type, code, origin = 401, "invalid_request_error", "invalid_api_key", Origin.CLIENT


class NotFoundError(RouterError):
    """An unknown path, model or operation."""

    status, type, code, origin = 404, "invalid_request_error", "not_found", Origin.CLIENT


class RefusedError(RouterError):
    """The router will not take this request now; `headers` says when."""

    status, type, code, origin = 503, "server_error", "overloaded", Origin.ROUTER


class ThrottledError(RefusedError):
    """Every deployment that may serve it is throttled."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class LimitedError(RefusedError):
    """A key, its workload or its model has used what it may; no deployment is at fault, and nobody need look."""

    status, type, code, origin = 429, "rate_limit_error", "rate_limit_exceeded", Origin.CLIENT


class StrangerError(LimitedError):
    """No key once more, from where too many have come without one: nobody looks whether this is another."""

    code, close = "too_many_invalid_keys", True


class BudgetSpentError(LimitedError):
    """Likewise of money: to wait and retry is no remedy."""

    type = code = "insufficient_quota"


class ClientGoneError(RouterError):
    """The client hung up: nobody reads what we would say. 499 in logs only."""

    status, code, origin = 499, "client_gone", Origin.CLIENT


class UpstreamError(RouterError):
    """An attempt failed before its commit point."""

    status, code, origin, retry = 502, "upstream_error", Origin.BACKEND, Retry.PAID


class ConnectError(UpstreamError):
    """No connection was made: nothing was sent. `reason`: why, in a word for metrics."""

    code, retry = "upstream_unreachable", Retry.SAFE

    def __init__(self, message: str, reason: str = "name") -> None:
        super().__init__(message)
        self.reason = reason


class StaleConnectionError(UpstreamError):
    """A reused connection died without one answer byte: most likely the peer had closed it while it was idle."""

    code = "upstream_stale_connection"


class UpstreamTimeoutError(UpstreamError):
    """A deadline passed while the deployment was being waited for."""

    status, code = 504, "upstream_timeout"


class StreamBrokenError(RouterError):
    """The deployment stopped after the commit point: a second attempt would append another answer to the half."""

    status, code, origin = 502, "stream_broken", Origin.BACKEND


class PlacementViolationError(RouterError):
    """A send that its permit does not allow was stopped at the connection: our bug, counted and never retried."""

    status, code = 500, "placement_violation"


def place_of(error: BaseException) -> str:
    """File and line where it happened, for logs; never its text, which may hold a request or a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace is not None else ""
