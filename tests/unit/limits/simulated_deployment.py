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
    stream_s: float = 0.0  # on average, from the first byte on, with no server
    seed: int = 1
    limits: list[int] = field(default_factory=list)  # each second
    served: int = 0
    elsewhere: int = 0

    def run(self, gradient: GradientLimit, seconds: float) -> "Load":
        rng = random.Random(self.seed)
        free = [0.0] * self.servers
        events: list[tuple[float, float]] = []  # when, and the time to first byte, or 0 for an end
        now, in_flight = 0.0, 0
        while now < seconds:
            now += rng.expovariate(self.per_s(now))
            while events and events[0][0] <= now:
                at, took_s = heapq.heappop(events)
                if took_s:
                    gradient.observe(took_s, in_flight, at)
                    self.served += 1
                if took_s and self.stream_s:
                    heapq.heappush(events, (at + rng.expovariate(1.0 / self.stream_s), 0.0))
                else:
                    in_flight -= 1
            if now > len(self.limits):
                self.limits.append(gradient.limit)
            if in_flight >= gradient.limit:
                self.elsewhere += 1
                continue
            in_flight += 1
            first = max(now, heapq.heappop(free)) + self.service_s(rng, now)
            heapq.heappush(free, first)
            heapq.heappush(events, (first, first - now))
        return self


def exponential(mean_s: float) -> Callable[[random.Random, float], float]:
    return lambda rng, _: rng.expovariate(1.0 / mean_s)


def lognormal(median_s: Callable[[float], float], sigma: float) -> Callable[[random.Random, float], float]:
    return lambda rng, now: median_s(now) * rng.lognormvariate(0.0, sigma)
