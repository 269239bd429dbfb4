"""What our balancer is compared with. All know the capacities, so they differ only in what else they look at."""

import random
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from router.balancing.choice import Balancer, C, PowerOfTwo, Weighted
from router.model.work import Work


class RoundRobin:
    """Everybody in turn, by capacity: the one whose turn is most overdue (nginx's smooth weighted round robin)."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._due: dict[str, float] = {}

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:  # noqa: ARG002 - as every balancer
        weights = [candidate.meter.capacity * candidate.meter.ramp for candidate in candidates]
        total = sum(weights)
        best, most = candidates[0], -inf
        for candidate, weight in zip(candidates, weights, strict=True):
            due = self._due.get(candidate.id)
            # Anywhere in its round at first: routers that begin at the same place stay in step, and are one herd.
            due = self._due[candidate.id] = weight + (due if due is not None else -self._rng.random() * total)
            if due > most:
                best, most = candidate, due
        self._due[best.id] = most - total
        return best


class LeastInFlight:
    """Of all the one with the fewest requests in flight for its capacity; of equals any, by capacity."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:  # noqa: ARG002 - as every balancer
        weights = [candidate.meter.capacity * candidate.meter.ramp for candidate in candidates]
        loads = [candidate.meter.requests / weight for candidate, weight in zip(candidates, weights, strict=True)]
        least = min(loads)
        # Idle ones are equal whatever their size, and most are idle where routers are many.
        equal = [weight if load == least else 0.0 for load, weight in zip(loads, weights, strict=True)]
        return self._rng.choices(candidates, equal)[0]


CONTENDERS: Final[dict[str, Callable[[random.Random], Balancer]]] = {
    "ours": PowerOfTwo,
    "round robin": RoundRobin,
    "least in flight": LeastInFlight,
    "random": Weighted,
}
