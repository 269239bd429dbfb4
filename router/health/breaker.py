"""The circuit breaker of one deployment: a table and the verbs that use it.

It knows who may pass and whose word still counts, not what a failure is, nor how long to stay open: `health` says that.
"""

import enum
import random
from typing import Final


class Phase(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"  # nobody passes until `until`
    PROBING = "probing"  # half open: one at a time
    RECOVERING = "recovering"  # everybody passes; its share of the traffic ramps up


class Event(enum.Enum):
    TRIPPED = "tripped"
    COOLED = "cooled"
    PASSED = "passed"
    RELEASED = "released"
    RAMPED = "ramped"


TRANSITIONS: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.CLOSED, Event.TRIPPED): Phase.OPEN,
    (Phase.RECOVERING, Event.TRIPPED): Phase.OPEN,
    (Phase.PROBING, Event.TRIPPED): Phase.OPEN,  # the probe went wrong
    (Phase.OPEN, Event.TRIPPED): Phase.OPEN,  # another cause, which may last longer
    (Phase.OPEN, Event.COOLED): Phase.PROBING,
    (Phase.PROBING, Event.PASSED): Phase.RECOVERING,
    (Phase.OPEN, Event.RELEASED): Phase.RECOVERING,  # it is needed: too many of its tier are out
    (Phase.PROBING, Event.RELEASED): Phase.RECOVERING,
    (Phase.RECOVERING, Event.RAMPED): Phase.CLOSED,
}
DEAD_PERMIT: Final = -1  # of an attempt that began although nobody may pass: its outcome decides nothing


class Breaker:
    """Guards one deployment. A permit is the epoch in which its attempt began, and counts in that epoch only."""

    __slots__ = ("epoch", "phase", "probe_out", "since", "until")

    def __init__(self) -> None:
        self.phase = Phase.CLOSED
        self.epoch = 0
        self.since = 0.0  # monotonic seconds of the last transition
        self.until = 0.0  # while open
        self.probe_out = False  # the only slot of a half-open breaker is taken

    def begin(self) -> int:
        """Returns the permit of an attempt; a half-open breaker gives its slot with it."""
        if self.phase is Phase.OPEN or self.probe_out:
            return DEAD_PERMIT
        self.probe_out = self.phase is Phase.PROBING
        return self.epoch

    def give_back(self, permit: int) -> None:
        """Frees the slot of a probe that decided nothing."""
        if permit == self.epoch:
            self.probe_out = False

    def fire(self, event: Event, now: float, until: float = 0.0) -> None:
        self.phase = TRANSITIONS[self.phase, event]  # a KeyError is our bug, never a runtime condition
        self.since, self.until, self.probe_out = now, until, False
        if event is not Event.RAMPED:  # what began on the ramp is as true as what begins after it
            self.epoch += 1


def open_time_s(first_s: float, max_s: float, times: int, rng: random.Random) -> float:
    """How long to stay open for the `times`-th time (from 1) without health between: doubled, with equal jitter.

    Finagle's failure accrual: the lower half is certain, the upper drawn, so that routers do not come back as one.
    """
    ceiling = min(first_s * 2.0 ** (times - 1), max_s)
    return ceiling / 2 * (1 + rng.random())


def ejection_time_s(first_s: float, max_s: float, times: int, rng: random.Random) -> float:
    """Envoy's outlier detection: a multiple that grows with each ejection and falls with health; ours has jitter."""
    return min(first_s * times * (0.9 + 0.2 * rng.random()), max_s)
