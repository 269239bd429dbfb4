"""Our model of the counter behind a quota: it says beforehand whether a send would be answered with 429.

It is built from what Azure documents and corrected by what answers say; see `docs/decisions/0014-quota-twin.md`.
"""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Final, NamedTuple

from router.limits.rate_headers import ROUNDING_S, figure, latest_reset_s
from router.limits.request_slices import TEN_S, RequestSlices, SlicesBelief
from router.limits.token_minute import MinuteBelief, TokenMinute

_LIMIT_TOKENS: Final = b"x-ratelimit-limit-tokens"
_LEFT_TOKENS: Final = b"x-ratelimit-remaining-tokens"
_RESET_TOKENS: Final = b"x-ratelimit-reset-tokens"
_RESET_TOKENS_TOO: Final = b"x-rate-limit-reset-tokens"
_LIMIT_REQUESTS: Final = b"x-ratelimit-limit-requests"
_LEFT_REQUESTS: Final = b"x-ratelimit-remaining-requests"
_RESET_REQUESTS: Final = b"x-ratelimit-reset-requests"
LOOK_EVERY_S: Final = 0.05


class Belief(NamedTuple):
    """What one process holds of a quota at one moment: for another that starts, and knows nothing."""

    tokens: MinuteBelief | None
    requests: SlicesBelief | None


class QuotaTwin:
    """One for each quota: a deployment's own, or that of a pool on which several draw."""

    __slots__ = ("_look_at", "_requests", "_tokens")

    def __init__(self, tpm: int | None, rpm: int | None, now: float) -> None:
        self._look_at = now
        self._tokens = TokenMinute(tpm, now) if tpm else None
        self._requests = RequestSlices(rpm, now) if rpm else None

    def wait_s(self, tokens: int, now: float) -> float:
        """0.0 where a request estimated at `tokens` would pass now, else seconds until it most likely would."""
        tokens_s = self._tokens.wait_s(tokens, now) if self._tokens is not None else 0.0
        requests = self._requests
        if requests is None or now >= requests.free_at:
            return tokens_s
        return max(tokens_s, requests.wait_s(now))

    def tokens_wait_s(self, tokens: int, now: float) -> float:
        """Likewise by its tokens alone."""
        return self._tokens.wait_s(tokens, now) if self._tokens is not None else 0.0

    def charge(self, tokens: int, now: float) -> None:
        """Counts a send. Those that fail count as well."""
        if self._tokens is not None:
            self._tokens.charge(tokens, now)
        if self._requests is not None:
            self._requests.sent(now)

    def refund(self, tokens: int, now: float) -> None:
        """Takes back tokens of a charge: of what was never sent all, of what was refused as wrong its completion.

        Else one request for an absurd number of tokens, which they refuse and do not count, would use up the minute for
        everybody. That it was sent stays counted.
        """
        if self._tokens is not None:
            self._tokens.refund(tokens, now)

    def charge_elsewhere(self, tokens: int, requests: int, now: float) -> None:
        """Counts what another process of ours sent on this quota; `tokens` below 0: what it took back."""
        if self._tokens is not None:
            if tokens >= 0:
                self._tokens.charge(tokens, now)
            else:
                self._tokens.refund(-tokens, now)
        if self._requests is not None and requests:
            self._requests.sent_elsewhere(requests, now)

    def belief(self, now: float) -> Belief:
        """All that others have told is in it."""
        tokens, requests = self._tokens, self._requests
        return Belief(
            tokens.belief(now) if tokens is not None else None, requests.belief(now) if requests is not None else None
        )

    def believe(self, belief: Belief, now: float) -> None:
        """Begins with that. Charges count on from there."""
        if self._tokens is not None and belief.tokens is not None:
            self._tokens.believe(belief.tokens, now)
        if self._requests is not None and belief.requests is not None:
            self._requests.believe(belief.requests, now)

    @property
    def charged(self) -> tuple[int, int]:
        """Tokens and requests ever charged, less what was taken back. Of tokens, those from elsewhere are in it."""
        tokens = int(self._tokens.charged) if self._tokens is not None else 0
        return tokens, self._requests.count if self._requests is not None else 0

    def answered(self, headers: Mapping[bytes, bytes], status: int, now: float) -> None:
        """Takes over what an answer says of the limits. Of the successes of one moment the first speaks for all."""
        if status == 200:
            if now < self._look_at:
                return
            self._look_at = now + LOOK_EVERY_S
        if _LEFT_TOKENS in headers and self._tokens is not None:
            left = figure(headers, _LEFT_TOKENS)
            limit = figure(headers, _LIMIT_TOKENS)
            # A limit of 0 or -1 says that nothing is tracked, and then its other figures say nothing.
            if left is not None and (limit or _LIMIT_TOKENS not in headers):
                reset_s = latest_reset_s(headers, _RESET_TOKENS) or latest_reset_s(headers, _RESET_TOKENS_TOO)
                self._tokens.told(limit, left if status != 429 else None, reset_s, now)
        if _LEFT_REQUESTS in headers and self._requests is not None:
            limit = figure(headers, _LIMIT_REQUESTS)
            if limit:
                self._requests.limit(limit)
            if limit and figure(headers, _LEFT_REQUESTS) == 0 and status != 429:
                reset_s = latest_reset_s(headers, _RESET_REQUESTS)
                if reset_s is not None and reset_s > 2 * ROUNDING_S:  # a slice of one second is over by now
                    self._requests.block(reset_s - ROUNDING_S, now)

    def refused(self, wait_s: float | None, now: float) -> None:
        """A 429 came for what we thought would pass: learns from it. `wait_s`: as the answer says, None without."""
        if self._of_requests(wait_s, now):
            assert self._requests is not None
            self._requests.refused(wait_s, now)
        elif self._tokens is not None:
            self._tokens.refused(wait_s, now)

    def tokens_left(self, now: float) -> float:
        """What may still be charged this minute; infinite where no limit is known."""
        return self._tokens.left(now) if self._tokens is not None else inf

    def requests_left(self, now: float) -> float:
        """Likewise of requests, in ten seconds."""
        return self._requests.left(now) if self._requests is not None else inf

    def left_ratios(self, now: float) -> Iterator[tuple[str, float]]:
        """How much of each limit that there is (`tokens`, `requests`) may still be used now, from 0.0 to 1.0."""
        if self._tokens is not None:
            yield "tokens", 1.0 - self._tokens.filled(now)
        if self._requests is not None:
            yield "requests", 1.0 - self._requests.filled(now)

    @property
    def share(self) -> float:
        """How much of the limit turned out to be ours: 1.0 where everything is as configured; the lesser of both."""
        tokens = self._tokens.share if self._tokens is not None else 1.0
        return min(tokens, self._requests.share) if self._requests is not None else tokens

    @property
    def limit_tokens(self) -> int | None:
        """Tokens a minute in force."""
        return self._tokens.limit if self._tokens is not None else None

    def minute_ends_at(self, now: float) -> float:
        """When the counter of tokens starts again, in monotonic seconds; infinite where no limit is known."""
        return self._tokens.ends_at(now) if self._tokens is not None else inf

    @property
    def factor(self) -> float:
        """What they count for a token of our estimate."""
        return self._tokens.drift.factor if self._tokens is not None else 1.0

    @property
    def drain(self) -> float:
        """Tokens a second that others use."""
        return self._tokens.drift.drain if self._tokens is not None else 0.0

    def _of_requests(self, wait_s: float | None, now: float) -> bool:
        """Whether the 429 is one for requests: by its wait, else by what is fuller."""
        if self._requests is None or self._tokens is None:
            return self._requests is not None
        if wait_s is not None and wait_s > TEN_S + 1.0:
            return False
        return self._requests.filled(now) >= self._tokens.filled(now)
