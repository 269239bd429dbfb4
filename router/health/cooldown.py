"""How long a deployment is left alone after it said, or showed, that it cannot serve.

Being told to wait is obeyed: nobody is sent there until the wait is over. A failure without such a word only makes the
deployment the last choice for a moment, so that the only deployment of a model is never taken away by one bad answer.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

WAIT_S_MIN: Final = 0.05
WAIT_S_MAX: Final = 60.0  # Azure has said 86,400 s; a minute later one more try costs little
NO_WORD_WAIT_S: Final[Mapping[str, float]] = MappingProxyType(
    {
        "throttled": 2.0,
        "credential": 30.0,  # an operator has to act
        "missing": 30.0,
        "overloaded": 1.0,
    }
)
FAILING_S: Final = 1.0


class Cooldown:
    """One deployment's, or one shared by all that draw on the same quota."""

    __slots__ = ("reason", "until")

    def __init__(self) -> None:
        self.until = 0.0  # monotonic seconds
        self.reason = ""

    def start(self, reason: str, wait_s: float | None, now: float) -> bool:
        """Waits for `wait_s`, clamped, or for as long as `reason` usually needs. Never shortens what runs.

        Returns True where this is news: it was not cooling down before.
        """
        wait_s = NO_WORD_WAIT_S.get(reason, FAILING_S) if wait_s is None else wait_s
        until = now + min(max(wait_s, WAIT_S_MIN), WAIT_S_MAX)
        fresh = self.until <= now
        if until > self.until:
            self.until, self.reason = until, reason
        return fresh

    def active(self, now: float) -> bool:
        return now < self.until

    def left_s(self, now: float) -> float:
        return max(0.0, self.until - now)
