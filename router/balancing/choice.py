"""Which of the candidates a request goes to."""

import random
from collections.abc import Callable, Sequence
from math import log
from typing import Final, Protocol, TypeVar

from router.balancing.meter import Meter, tokens_of
from router.model.policy import Prefer
from router.model.work import Work

BOUND: Final = 1.25  # of its share that an affine deployment may have (Mirrokni et al., bounded loads)
ALWAYS_IN_FLIGHT: Final = 4  # requests that are too few to call a deployment loaded
_FAILING: Final = 2.0  # the penalty from which on nobody is sent there for the sake of a cache
_NEARLY: Final = 1.25  # times the best: as good, for `latency`
_MIX: Final = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
_64_BITS: Final = 0xFFFFFFFFFFFFFFFF
_TO_UNIT: Final = 2.0**-64 * (1.0 - 2.0**-52)  # keeps the greatest below 1, so that its logarithm is not 0


class Candidate(Protocol):
    """A deployment that placement and health left over."""

    @property
    def id(self) -> str: ...

    @property
    def hash(self) -> int:
        """Follows from `id` alone, the same in every process; at least 32 bits of it vary."""
        ...

    @property
    def meter(self) -> Meter: ...

    @property
    def pressed(self) -> bool:
        """Near a limit: asked only for its load, not for its price or its cache."""
        ...

    def price_nano_usd(self, work: Work) -> int:
        """What the request will cost, as far as its estimate tells."""
        ...


C = TypeVar("C", bound=Candidate)


class Balancer(Protocol):
    """Picks one of the candidates. `candidates`: at least one; `now`: monotonic seconds."""

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C: ...


class PowerOfTwo:
    """Takes the less loaded of two random ones (Mitzenmacher 2001): O(1), and no herd on a stale minimum."""

    __slots__ = ("_random",)

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:
        n = len(candidates)
        if n == 1:
            return candidates[0]
        first = int(self._random() * n)
        # Steps past `first`: two plain draws would collide once in n times and compare nothing.
        second = (first + 1 + int(self._random() * (n - 1))) % n
        a, b = candidates[first], candidates[second]
        stream, tokens = work.stream, tokens_of(work)
        if a.meter.knows(stream) and b.meter.knows(stream):
            return a if a.meter.load(stream, now, tokens) <= b.meter.load(stream, now, tokens) else b
        # Who is not known yet is taken to be as fast as the other: else the first one measured would get it all.
        return a if a.meter.fullness(now, tokens) <= b.meter.fullness(now, tokens) else b


class Weighted:
    """At random, in proportion to capacity and slow start: what is measured plays no part."""

    __slots__ = ("_random",)

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:  # noqa: ARG002 - as every balancer
        drawn = self._random() * sum(candidate.meter.capacity * candidate.meter.ramp for candidate in candidates)
        for candidate in candidates:
            drawn -= candidate.meter.capacity * candidate.meter.ramp
            if drawn < 0.0:
                return candidate
        return candidates[-1]


class Cheapest:
    """The cheapest that is not under pressure; among equally cheap ones the less loaded of two."""

    __slots__ = ("_among",)

    def __init__(self, rng: random.Random) -> None:
        self._among = PowerOfTwo(rng)

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:
        able = [candidate for candidate in candidates if not candidate.pressed] or candidates
        prices = [candidate.price_nano_usd(work) for candidate in able]
        least = min(prices)
        cheapest = [candidate for candidate, price in zip(able, prices, strict=True) if price == least]
        return self._among.pick(cheapest, work, now)


class Fastest:
    """One that answers first: the less loaded of two whose first byte is within a quarter of the best's.

    The quarter keeps those that are as good from taking turns in being flooded.
    """

    __slots__ = ("_among",)

    def __init__(self, rng: random.Random) -> None:
        self._among = PowerOfTwo(rng)

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:
        able = [candidate for candidate in candidates if not candidate.pressed] or candidates
        stream = work.stream
        costs = [candidate.meter.cost_s(stream, now) for candidate in able]
        enough = min(costs) * _NEARLY
        fast = [candidate for candidate, cost in zip(able, costs, strict=True) if cost <= enough]
        return self._among.pick(fast, work, now)


class Affinity:
    """Requests that may share a prompt cache go to one deployment, as far as its load allows.

    Rendezvous hashing (Thaler, Ravishankar 1998), weighted by capacity: each key has its own order of all deployments,
    so one that comes or goes moves no other's keys. The first of that order with room is taken. One with fewer than
    four requests in flight has room; another, while its outstanding tokens and the request's are at most 1.25 times its
    share of everybody's. Nobody is sent to one that is pressed or failing. Where none has room, and for a request
    without a key, `inner` decides.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Balancer) -> None:
        self._inner = inner

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:
        key = work.affinity
        if not key:
            return self._inner.pick(candidates, work, now)
        tokens = tokens_of(work)
        capacity, outstanding = 0.0, tokens
        for candidate in candidates:
            capacity += candidate.meter.capacity * candidate.meter.ramp
            outstanding += candidate.meter.tokens
        bound = BOUND * outstanding / capacity
        chosen, highest = None, 0.0
        for candidate in candidates:
            mixed = (key ^ candidate.hash) * _MIX & _64_BITS
            drawn = (mixed ^ mixed >> 32) * _MIX & _64_BITS
            score = -candidate.meter.capacity / log((drawn + 0.5) * _TO_UNIT)
            if score > highest and not candidate.pressed and _has_room(candidate.meter, tokens, bound, now):
                chosen, highest = candidate, score
        return chosen if chosen is not None else self._inner.pick(candidates, work, now)


class Rendezvous:
    """The same one for all requests of one key, while it may be asked: the first in that key's own order of all."""

    __slots__ = ()

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:  # noqa: ARG002 - as every balancer
        key = work.affinity
        return max(candidates, key=lambda candidate: _mixed(key ^ candidate.hash))


def _mixed(bits: int) -> int:
    mixed = bits * _MIX & _64_BITS
    return (mixed ^ mixed >> 32) * _MIX & _64_BITS


def _has_room(meter: Meter, tokens: float, bound: float, now: float) -> bool:
    """`bound`: tokens for each unit of capacity."""
    if meter.penalty(now) >= _FAILING:
        return False
    return meter.requests < ALWAYS_IN_FLIGHT or meter.tokens + tokens <= bound * meter.capacity * meter.ramp


_BALANCERS: Final[dict[Prefer, Callable[[random.Random], Balancer]]] = {
    Prefer.BALANCED: PowerOfTwo,
    Prefer.WEIGHTED: Weighted,
    Prefer.COST: Cheapest,
    Prefer.LATENCY: Fastest,
}


def balancer_for(prefer: Prefer, affinity: bool, rng: random.Random) -> Balancer:
    """The balancer of a workload's tiers."""
    inner = _BALANCERS[prefer](rng)
    return Affinity(inner) if affinity else inner
