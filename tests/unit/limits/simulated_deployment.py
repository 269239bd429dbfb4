"""A deployment behind a concurrency limit: so many servers, a queue before them, and time that nobody waits for."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from router.limits.concurrency import GradientLimit


@dataclass
class Load:
    """M/G/c with arrivals that go elsewhere beyond the limit. `service_s`: of a request, at a time."""

    servers: int
    per_s: Callable[[float], float]
    service_s: Callable[[random.Random, float], float]
    seed: int = 1
    limits: list[int] = field(default_factory=list)  # each second
    served: int = 0
    elsewhere: int = 0

    def run(self, gradient: GradientLimit, seconds: float) -> "Load":
        rng = random.Random(self.seed)
        free = [0.0] * self.servers
        ends: list[tuple[float, float]] = []
        now, in_flight = 0.0, 0
        while now < seconds:
            now += rng.expovariate(self.per_s(now))
            while ends and ends[0][0] <= now:
                at, took_s = heapq.heappop(ends)
                gradient.observe(took_s, in_flight, at)
                in_flight -= 1
                self.served += 1
            if now > len(self.limits):
                self.limits.append(gradient.limit)
            if in_flight >= gradient.limit:
                self.elsewhere += 1
                continue
            in_flight += 1
            end = max(now, heapq.heappop(free)) + self.service_s(rng, now)
            heapq.heappush(free, end)
            heapq.heappush(ends, (end, end - now))
        return self


def exponential(mean_s: float) -> Callable[[random.Random, float], float]:
    return lambda rng, _: rng.expovariate(1.0 / mean_s)


def lognormal(median_s: Callable[[float], float], sigma: float) -> Callable[[random.Random, float], float]:
    return lambda rng, now: median_s(now) * rng.lognormvariate(0.0, sigma)
