"""The bars for a region that slows, on a fake clock: open-loop traffic, power of two choices, the real policies."""

import heapq
import random
from collections import Counter
from math import exp, inf

import pytest

from router.health.health import Health
from router.health.outliers import sweep
from router.health.settings import HealthSettings

TAU_S = 5.0
BIN_S = 0.25


class Region:
    """A `Sample`, and the deployment behind it: log-normal first bytes around `median_s`."""

    def __init__(self, name: str, seed: int) -> None:
        self.id, self.median_s = name, 0.1
        self.first_byte_s, self._observed_at = 0.0, 0.0
        self.sent_at: dict[int, float] = {}  # by attempt
        self.now = 0.0
        self.health = Health(HealthSettings(), random.Random(seed), self.forget)

    def forget(self) -> None:
        self.first_byte_s = 0.0

    @property
    def waiting(self) -> int:
        return len(self.sent_at)

    @property
    def oldest_wait_s(self) -> float:
        return self.now - min(self.sent_at.values(), default=self.now)

    def observe(self, first_byte_s: float, now: float) -> None:
        keep = exp(-(now - self._observed_at) / TAU_S) if self.first_byte_s else 0.0
        self.first_byte_s = first_byte_s * (1 - keep) + self.first_byte_s * keep
        self._observed_at = now

    def load(self, now: float) -> float:
        return (len(self.sent_at) + 1) / self.health.ramp(now)


class World:
    """Three regions under an open loop of `rate` requests a second."""

    def __init__(self, rate: float, sigma: float, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rate, self.sigma = rate, sigma
        self.regions = [Region(name, seed) for name in "abc"]
        self.now = 0.0
        self.swept_at = 0.0
        self.ends: list[tuple[float, int, Region, int]] = []
        self.attempts = 0
        self.first_bytes: list[tuple[float, float]] = []  # when it was sent, how long it took
        self.sent: Counter[tuple[int, str]] = Counter()  # by bin and region
        self.ejections: list[tuple[str, str]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        arrival = self.now
        while (arrival := arrival + self.rng.expovariate(self.rate)) < end:
            while self.swept_at + BIN_S <= arrival:
                self.swept_at += BIN_S
                self._until(self.swept_at)
                for region in self.regions:
                    region.now = self.swept_at
                self.ejections += sweep([self.regions], HealthSettings(), self.swept_at)
            self._until(arrival)
            self._send(arrival)
        self.now = end

    def share(self, name: str, since: float, until: float) -> float:
        bins = {at: count for (at, region), count in self.sent.items() if region == name}
        chosen = [at for at, _ in self.sent if since <= at * BIN_S < until]
        total = sum(count for (at, _), count in self.sent.items() if at in set(chosen))
        return sum(bins.get(at, 0) for at in set(chosen)) / max(1, total)

    def p99_s(self, since: float, until: float = inf) -> float:
        took = sorted(seconds for at, seconds in self.first_bytes if since <= at < until)
        return took[int(len(took) * 0.99)]

    def _send(self, now: float) -> None:
        able = [region for region in self.regions if not region.health.refusal(now)]
        region = min(self.rng.sample(able, min(2, len(able))), key=lambda region: region.load(now))
        permit = region.health.begin(now)
        took = self.rng.lognormvariate(0, self.sigma) * region.median_s
        self.attempts += 1
        region.sent_at[self.attempts] = now
        self.first_bytes.append((now, took))
        self.sent[int(now / BIN_S), region.id] += 1
        heapq.heappush(self.ends, (now + took, self.attempts, region, permit))

    def _until(self, now: float) -> None:
        while self.ends and self.ends[0][0] <= now:
            at, attempt, region, permit = heapq.heappop(self.ends)
            region.observe(at - region.sent_at.pop(attempt), at)
            region.health.succeeded(permit, at)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("rate", "sigma"), [(200.0, 0.4), (60.0, 0.4), (200.0, 0.8)])
def test_a_region_that_slows_tenfold_loses_its_traffic_and_gets_it_back(rate: float, sigma: float, seed: int) -> None:
    world = World(rate, sigma, seed)
    world.run(60)
    assert world.ejections == [], "noise alone ejects nobody"
    before = world.p99_s(10)

    world.regions[2].median_s = 1.0
    world.run(60)
    shares = [world.share("c", 65 + second, 66 + second) for second in range(55)]
    assert max(shares) < 0.05
    assert world.p99_s(60, 120) <= 1.5 * before

    world.regions[2].median_s = 0.1
    back_at = world.now
    world.run(80)
    passed = next(second for second in range(80) if world.share("c", back_at + second, back_at + second + 1) > 0.02)
    full_at = back_at + passed + HealthSettings().slow_start_s
    assert world.share("c", full_at, full_at + 10) > 0.28
    assert all(region.health.clear for region in world.regions)


@pytest.mark.parametrize("seed", range(3))
def test_noise_seldom_ejects_even_where_averages_are_made_of_few_answers(seed: int) -> None:
    world = World(3.0, 0.8, seed)
    world.run(1800)
    assert len(world.ejections) <= 9, "of three regions in half an hour"
