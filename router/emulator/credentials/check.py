"""What can be wrong with a credential, and the plainest check: a key in a header."""

import enum
from typing import Protocol

from router.emulator.received import Request


class Problem(enum.Enum):
    """What is wrong with a request's credential."""

    MISSING = "missing"
    UNKNOWN = "unknown"  # a key or token that is nobody's
    SIGNATURE = "signature"  # it does not fit the request
    EXPIRED = "expired"  # a token past its end, a date too far from the cloud's own
    SCOPE = "scope"  # right, but not for this: another audience, region, service or compartment


class Check(Protocol):
    """Decides by a whole request."""

    def problem(self, request: Request) -> Problem | None: ...


class KeyCheck:
    """A bearer key; None: any is right, and none too."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def problem(self, request: Request) -> Problem | None:
        given = request.header("authorization")
        if self._key is None:
            return None
        if given is None:
            return Problem.MISSING
        return None if given == f"Bearer {self._key}" else Problem.UNKNOWN
