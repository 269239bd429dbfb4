"""What one deployment is doing, as balancing sees it: outstanding tokens, and how long first bytes take.

First bytes are judged at one size: the time to them is taken as `t0 × (1 + prompt_tokens / 4000)`, a fixed part and a
prefill that doubles it at 4,000 tokens. What is kept is `t0`. A whole answer's first byte is its last as well, so whole
answers are kept apart from streams.
"""

from math import exp
from typing import Final

from router.balancing.histogram import Histogram
from router.model.work import Work

TYPICAL_TOKENS: Final = 1000.0  # of a request, where nothing better is known
ANSWER_TOKENS: Final = 500.0  # of an answer to a client that names no maximum, and at most of one that does
_FADE_S: Final = 10.0  # tau of all that is remembered here, as in Finagle's peak EWMA
_RISE: Final = 0.25  # of the way up that one slower answer moves the peak: one outlier is no slow deployment
_PREFILL_TOKENS: Final = 4000.0
_SLOW: Final = 1.5  # times the peers' view, from where on the excess counts twice
_PEERS_S: Final = 0.5  # the cost of an unknown one as long as nobody has told the peers' view
_PENALTY_MAX: Final = 2.0**20
_FORGIVEN: Final = 0.7  # of the penalty is left after each success: two of them undo one failure
_FADED: Final = 1.01  # a penalty so small is none: idle deployments are told apart by less


def tokens_of(work: Work) -> float:
    """What a request adds to a deployment's outstanding tokens.

    What a client allows for its answer is mostly far more than the answer: it counts only where it is less than usual.
    """
    answer = work.completion_tokens_max
    return work.prompt_tokens + (answer if 0 < answer < ANSWER_TOKENS else ANSWER_TOKENS)


class FirstByte:
    """Times to the first byte of one deployment's streams, or of its whole answers; in seconds at no prompt."""

    __slots__ = ("at", "mean_s", "peak_s", "peers_s", "times")

    def __init__(self) -> None:
        self.at = 0.0  # of the last observation
        self.mean_s = 0.0  # EWMA, tau 5 s; 0.0: unknown
        self.peak_s = 0.0  # rises at once and falls slowly, tau 10 s
        self.peers_s = _PEERS_S  # what is assumed where nothing is known, or nothing any more
        self.times = Histogram()  # unscaled

    def observe(self, first_byte_s: float, scaled_s: float, now: float) -> None:
        self.times.observe(first_byte_s, now)
        peak = self.peak_s
        if peak == 0.0:
            self.peak_s = self.mean_s = scaled_s
        else:
            left = exp((self.at - now) / _FADE_S)
            self.peak_s = peak + (scaled_s - peak) * _RISE if scaled_s > peak else scaled_s + (peak - scaled_s) * left
            self.mean_s = scaled_s + (self.mean_s - scaled_s) * left * left
        self.at = now

    def take(self, at: float, mean_s: float, peak_s: float) -> None:
        """Begins with what another process has seen; what was seen here is newer."""
        if self.peak_s == 0.0:
            self.at, self.mean_s, self.peak_s = at, mean_s, peak_s

    def cost_s(self, now: float) -> float:
        """The peak, as far as it is fresh; what is old fades towards the peers' view, so that nobody is avoided for
        ever for what was, and nobody is flooded for what is not known.
        """
        if self.peak_s == 0.0:
            return self.peers_s
        return self.peers_s + (self.peak_s - self.peers_s) * exp((self.at - now) / _FADE_S)


class Meter:
    """One deployment's. `ramp`, `engine` and the two `peers_s` are set by whoever owns the meter."""

    __slots__ = ("_penalised_at", "_penalty", "capacity", "engine", "ramp", "requests", "stream", "tokens", "whole")

    def __init__(self, capacity: float) -> None:
        """`capacity`: thousands of tokens a minute, or another fixed weight; greater than 0."""
        self.capacity = capacity
        self.tokens = 0.0  # outstanding: estimates less what has streamed out
        self.requests = 0  # in flight
        self.ramp = 1.0  # slow start's share of the capacity, in (0, 1]
        self.engine = 1.0  # queueing that the engine's own gauges show: a multiplier of the load, at least 1
        self.stream = FirstByte()
        self.whole = FirstByte()
        self._penalty = 1.0  # multiplies the cost; doubled by each failure
        self._penalised_at = 0.0

    def begin(self, tokens: float) -> None:
        self.requests += 1
        self.tokens += tokens

    def progress(self, tokens: float) -> None:
        """So many of the outstanding tokens have streamed out meanwhile."""
        left = self.tokens - tokens
        self.tokens = left if left > 0.0 else 0.0  # noqa: FURB136 - once a chunk, and a call costs more

    def end(self, tokens_left: float, now: float) -> None:  # noqa: ARG002 - as all that ends a request here
        """`tokens_left`: what `begin` was told less what `progress` was."""
        self.requests -= 1
        left = self.tokens - tokens_left
        # Nothing in flight is nothing outstanding, whatever rounding has left.
        self.tokens = left if left > 0.0 and self.requests else 0.0

    def observe(self, first_byte_s: float, work: Work, now: float) -> None:
        """A first byte came, of an answer that is no failure."""
        first = self.stream if work.stream else self.whole
        first.observe(first_byte_s, first_byte_s / (1.0 + work.prompt_tokens / _PREFILL_TOKENS), now)
        if self._penalty != 1.0:
            self._penalty = max(1.0, self.penalty(now) * _FORGIVEN)
            self._penalised_at = now

    def failed(self, now: float) -> None:
        """Each failure doubles the cost, and ten seconds let the doubling fade: one that fails fast, and so has nothing
        outstanding, is asked about once in seven seconds for as long as it fails. Throttling is no failure.
        """
        self._penalty = min(2.0 * self.penalty(now), _PENALTY_MAX)
        self._penalised_at = now

    def forgive(self) -> None:
        """Health says that it is well again: what was measured before is void, and slow start alone holds back."""
        self._penalty = 1.0
        self.stream.peak_s = self.whole.peak_s = 0.0
        self.stream.mean_s = self.whole.mean_s = 0.0
        self.stream.times, self.whole.times = Histogram(), Histogram()

    def penalty(self, now: float) -> float:
        """What recent failures multiply the cost by; 1.0 without."""
        if self._penalty == 1.0:
            return 1.0
        left = 1.0 + (self._penalty - 1.0) * exp((self._penalised_at - now) / _FADE_S)
        return left if left > _FADED else 1.0

    def cost_s(self, stream: bool, now: float) -> float:
        """Seconds to the first byte as they are to be expected, failures included."""
        return (self.stream if stream else self.whole).cost_s(now) * self.penalty(now)

    def load(self, stream: bool, now: float, tokens: float = TYPICAL_TOKENS) -> float:
        """Cost × outstanding tokens, with those of the request to be placed, in proportion to capacity.

        In proportion alone, one ten times slower would always have a request where its peers have ten.
        """
        first = self.stream if stream else self.whole
        cost = first.peers_s
        if first.peak_s:
            cost += (first.peak_s - cost) * exp((first.at - now) / _FADE_S)
            slower = cost / (_SLOW * first.peers_s)
            if slower > 1.0:
                cost *= slower
        if self._penalty != 1.0:
            cost *= self.penalty(now)
        return cost * self.engine * (self.tokens + tokens) / (self.capacity * self.ramp)

    def knows(self, stream: bool) -> bool:
        """Whether a first byte of this kind was seen since the start, or since `forgive`."""
        return (self.stream if stream else self.whole).peak_s != 0.0

    def fullness(self, now: float, tokens: float = TYPICAL_TOKENS) -> float:
        """`load` at a cost of one, for comparing with one whose first bytes are not known."""
        return self.penalty(now) * self.engine * (self.tokens + tokens) / (self.capacity * self.ramp)

    def first_byte_s(self, stream: bool) -> float:
        """The plain average of late, at no prompt; 0.0: unknown."""
        return (self.stream if stream else self.whole).mean_s

    def quantile_s(self, q: float, stream: bool = True) -> float:
        """Of recent first bytes, prompts of all sizes together; 0.0: unknown."""
        return (self.stream if stream else self.whole).times.quantile(q)
