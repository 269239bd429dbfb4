"""One word for how a deployment is, with its reason, out of all that can be said about it."""

import enum
from dataclasses import dataclass
from math import inf


class State(enum.Enum):
    """How a deployment is. Only `UP`, `DEGRADED`, `PROBING` and `UNKNOWN` ones are asked."""

    UP = "up"
    DEGRADED = "degraded"  # asked, but failing of late or not yet with its full share
    THROTTLED = "throttled"  # told us to wait: no ill health
    EJECTED = "ejected"
    PROBING = "probing"  # one request at a time finds out whether it is back
    DRAINING = "draining"
    UNKNOWN = "unknown"  # nothing has been heard of it yet


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason`: empty for `UP`. `until`: monotonic seconds, infinite where the end is not known."""

    state: State
    reason: str = ""
    until: float = inf


def merged(health: Verdict, now: float, *, throttled_until: float = 0.0, draining: bool = False) -> Verdict:
    """The verdict that stands when several do: an operator's word, then ill health, then throttling, then the rest."""
    if draining:
        return Verdict(State.DRAINING, "operator")
    if health.state is not State.EJECTED and throttled_until > now:
        return Verdict(State.THROTTLED, "throttled", throttled_until)
    return health
