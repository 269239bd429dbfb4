"""Azure's admission of requests, as its documents tell it: by an estimate on arrival, in fixed windows.

Tokens: prompt characters / 4 + max_tokens, added to a counter that starts again each minute. Requests: the minute's
allowance is checked over slices of 1 s and 10 s, and a request that is refused counts as one all the same.
Pure: `now` is monotonic seconds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_PROMPT_KEYS: Final = ("messages", "prompt", "input", "instructions")
_LIMIT_KEYS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
DEFAULT_MAX_TOKENS: Final = 16  # what a request counts for whose own limit is left out


class Window:
    """A counter that starts again every `length_s` seconds."""

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self.used = 0
        self._epoch = -1

    def roll(self, now: float) -> None:
        epoch = int(now // self.length_s)
        if epoch != self._epoch:
            self._epoch, self.used = epoch, 0

    def left_s(self, now: float) -> float:
        """Seconds until it starts again."""
        return (math.floor(now / self.length_s) + 1) * self.length_s - now


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the counter says of one request. Limits are None where the deployment has none."""

    allowed: bool
    rule: str | None  # Token or Call: which limit refused it
    wait_s: float  # until a next one may pass; 0 when it was allowed
    limit_requests: int | None
    remaining_requests: int
    reset_requests_s: float
    limit_tokens: int | None
    remaining_tokens: int
    reset_tokens_s: float


class Quota:
    """The counters of one quota pool. `tpm` and `rpm`: a minute's tokens and requests; None: not limited."""

    def __init__(self, tpm: int | None, rpm: int | None) -> None:
        self.tpm, self.rpm = tpm, rpm
        self._full = tpm, rpm
        self._tokens = Window(60.0)
        self._slices = (Window(1.0), Window(10.0))

    def charge(self, tokens: int, now: float) -> Verdict:
        """Counts a request that is estimated at `tokens` and says whether it may pass."""
        self._tokens.roll(now)
        rule, wait_s = None, 0.0
        for window in self._slices:
            window.roll(now)
            window.used += 1
            if self.rpm is not None and window.used > self._slice_limit(window):
                rule, wait_s = "Call", max(wait_s, window.left_s(now))
        if rule is None and self.tpm is not None and self._tokens.used + tokens > self.tpm:
            rule, wait_s = "Token", self._tokens.left_s(now)
        if rule is None:
            self._tokens.used += tokens
        wide = self._slices[1]
        return Verdict(
            allowed=rule is None,
            rule=rule,
            wait_s=wait_s,
            limit_requests=self.rpm,
            remaining_requests=max(0, self._slice_limit(wide) - wide.used) if self.rpm is not None else -1,
            reset_requests_s=wide.left_s(now) if self.rpm is not None else 0.0,
            limit_tokens=self.tpm,
            remaining_tokens=max(0, self.tpm - self._tokens.used) if self.tpm is not None else -1,
            reset_tokens_s=self._tokens.left_s(now) if self.tpm is not None else 0.0,
        )

    def lower(self, share: float) -> None:
        """Leaves this share of the limits that the quota began with; 1 is all of them. What is used stays used."""
        self.tpm, self.rpm = (None if limit is None else math.floor(limit * share) for limit in self._full)

    def _slice_limit(self, window: Window) -> int:
        return max(1, math.ceil((self.rpm or 0) * window.length_s / 60))


def estimate(fields: Mapping[str, Any]) -> int:
    """The tokens that a request counts for when it arrives."""
    limit = next((fields[key] for key in _LIMIT_KEYS if isinstance(fields.get(key), int)), DEFAULT_MAX_TOKENS)
    best_of = fields.get("best_of")
    times = best_of if isinstance(best_of, int) and best_of > 1 else 1
    return prompt_tokens(fields) + max(0, limit) * times


def prompt_tokens(fields: Mapping[str, Any]) -> int:
    """A quarter of the prompt's characters, at least one."""
    return max(1, sum(_characters(fields.get(key)) for key in _PROMPT_KEYS) // 4)


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_characters(inner) for inner in value.values())
    if isinstance(value, list):
        return sum(_characters(inner) for inner in value)
    return 0
