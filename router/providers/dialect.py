"""What a dialect must know: where an operation lives, which credentials it takes, and what an error means.

It refuses to know what follows from an error: cooldowns, retries and ejections belong to other rooms.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from router.model.fleet import AuthKind, Deployment, Endpoint
from router.model.operation import Operation


@dataclass(frozen=True, slots=True)
class Route:
    """Where a deployment serves an operation. Made once, when the configuration is loaded."""

    target: bytes  # path and query of the request line, percent-encoded
    model_in_body: bool  # the upstream reads `model` from the body, where it must be the deployment's name
    usage_option: bool  # `stream_options.include_usage` may be asked for
    needs_done: bool  # a chat stream without `[DONE]` was cut


class Fault(enum.Enum):
    """What an upstream's error says about the deployment."""

    ANSWER = "answer"  # nothing: it is the client's own error
    THROTTLED = "throttled"  # quota or capacity is used up for a while
    CREDENTIAL = "credential"  # our credential, our rights or our bill
    MISSING = "missing"  # no such deployment, operation or api-version there
    OVERLOADED = "overloaded"  # it is up and cannot take more
    SERVER_ERROR = "server_error"  # it failed, or answered what no deployment should


@dataclass(frozen=True, slots=True)
class Judgement:
    """The meaning of an error answer. `wait_s`: the wait that it names, unclamped; None where it names none.

    `too_many`: too many requests at one time, which ends as soon as one of them does.
    """

    kind: Fault
    wait_s: float | None = None
    too_many: bool = False

    @property
    def retry(self) -> bool:
        """Another deployment may do better."""
        return self.kind is not Fault.ANSWER


class Dialect(Protocol):
    """One provider's way of speaking HTTP."""

    @property
    def identities(self) -> frozenset[AuthKind]:
        """How an endpoint of this provider can be told who we are."""
        ...

    def route(self, deployment: Deployment, operation: Operation) -> Route | None:
        """Returns None where this dialect, or the endpoint's api-version, has no such operation."""
        ...

    def stored_under(self, endpoint: Endpoint) -> tuple[bytes, bytes]:
        """What stands before the path of something that is stored there, and what its query has to say; each may be
        empty.
        """
        ...

    def judge(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Judgement:
        """Reads an answer that is no success. `headers`: names in lower case."""
        ...

    def judge_event(self, error: object) -> Judgement:
        """Reads an error object that came inside a 200 stream, before the commit point."""
        ...
