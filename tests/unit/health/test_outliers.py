"""What is worse than its peers goes, as far as its tier can spare it, and comes back on trial."""

import random

from router.health.health import Health
from router.health.outliers import LOOKS_MIN, sweep
from router.health.settings import HealthSettings

SETTINGS = HealthSettings()


class Region:
    """A `Sample` that a test sets."""

    def __init__(self, name: str, first_byte_s: float = 0.1) -> None:
        self.id = name
        self.first_byte_s, self.oldest_wait_s, self.waiting = first_byte_s, 0.0, 0
        self.health = Health(SETTINGS, random.Random(name), self.forget)

    def forget(self) -> None:
        self.first_byte_s = 0.0


def regions(*first_bytes_s: float) -> list[Region]:
    return [Region(name, first_byte_s) for name, first_byte_s in zip("abcdefgh", first_bytes_s, strict=False)]


class Clock:
    """Sweeps a fleet every quarter of a second, while those that are in service answer as they do."""

    def __init__(self, *groups: list[Region]) -> None:
        self.groups, self.now = groups, 1000.0
        self.rng = random.Random(7)

    def run(self, seconds: float, answers: dict[str, float] | None = None) -> list[tuple[str, str]]:
        """`answers`: first-byte times by region, of those that answer once between any two sweeps."""
        found = []
        end = self.now + seconds
        while self.now < end:
            self.now += 0.25
            for region in {r.id: r for group in self.groups for r in group}.values():
                if region.id not in (answers or {}) or region.health.refusal(self.now):
                    continue
                permit = region.health.begin(self.now)
                sample = answers[region.id] * self.rng.uniform(0.95, 1.05)
                region.first_byte_s = 0.8 * region.first_byte_s + 0.2 * sample if region.first_byte_s else sample
                region.health.succeeded(permit, self.now)
            found += sweep(self.groups, SETTINGS, self.now)
        return found


def test_a_slow_one_goes_is_tried_alone_and_ramps_back() -> None:
    a, b, c = regions(0.1, 0.1, 0.1)
    clock = Clock([a, b, c])
    assert clock.run(10, {"a": 0.1, "b": 0.1, "c": 0.1}) == []

    assert clock.run(5, {"a": 0.1, "b": 0.1, "c": 1.0}) == [("c", "slow")]
    assert c.health.refusal(clock.now) == "slow"

    again = clock.run(60, {"a": 0.1, "b": 0.1, "c": 1.0})
    assert again
    assert set(again) == {("c", "slow")}
    assert len(again) <= 4, "the times out grow"

    assert clock.run(60, {"a": 0.1, "b": 0.1, "c": 0.1}) == []
    assert c.health.clear


def test_silence_is_slow_before_the_first_answer_comes() -> None:
    a, b, c = regions(0.1, 0.1, 0.1)
    clock = Clock([a, b, c])
    clock.run(5, {"a": 0.1, "b": 0.1, "c": 0.1})
    c.waiting, c.oldest_wait_s = 5, 0.4

    assert clock.run(1, {"a": 0.1, "b": 0.1}) == [("c", "slow")]


def test_an_ejected_one_returns_when_it_is_needed() -> None:
    a, b, c = regions(0.1, 0.1, 0.1)
    clock = Clock([a, b, c])
    clock.run(10, {"a": 0.1, "b": 0.1, "c": 1.0})
    assert c.health.out

    for _ in range(SETTINGS.consecutive_failures):
        a.health.failed(a.health.begin(clock.now), "connect", clock.now)
    clock.run(0.25)
    assert not c.health.out, "one of three may be out by our opinion, and one is by itself"
    assert clock.run(0.75, {"b": 0.1, "c": 1.0}) == []


def test_two_that_are_each_worse_in_their_own_way_do_not_both_go() -> None:
    a, b = regions(0.1, 0.1)
    limits = HealthSettings(ejected_share_max=1.0)
    now = 1000.0
    for look in range(LOOKS_MIN - 1):
        a.first_byte_s = 1.0 + look / 1000
        assert sweep([[a, b]], limits, now + look / 4) == []
    now += LOOKS_MIN / 4
    a.first_byte_s = 1.1  # now too slow for long enough, and in the same sweep
    fill(a, 100, 0, now)
    fill(b, 10, 30, now)
    assert sweep([[a, b]], limits, now) == [("b", "success_rate")]
    assert a.health.clear


def fill(region: Region, ok: int, bad: int, now: float = 1000.0) -> None:
    region.health.tick(now)
    region.health.window.ok, region.health.window.bad = ok, bad


def test_one_that_fails_more_than_its_peers_goes() -> None:
    fleet = regions(0.1, 0.1, 0.1, 0.1)
    for region in fleet[:3]:
        fill(region, 99, 1)
    fill(fleet[3], 15, 10)
    assert sweep([fleet], SETTINGS, 1000.0) == [("d", "success_rate")]
    assert fleet[3].health.refusal(1000.0) == "unhealthy"


def test_where_all_fail_alike_nobody_goes() -> None:
    fleet = regions(0.1, 0.1, 0.1, 0.1)
    for region, bad in zip(fleet, (50, 45, 55, 52), strict=True):
        fill(region, 50, bad)
    assert sweep([fleet], SETTINGS, 1000.0) == []
    pair = regions(0.1, 0.1)
    for region in pair:
        fill(region, 50, 50)
    assert sweep([pair], SETTINGS, 1000.0) == []


def test_a_few_requests_say_nothing_about_a_rate() -> None:
    fleet = regions(0.1, 0.1)
    fill(fleet[0], 100, 0)
    fill(fleet[1], 10, 9)
    assert sweep([fleet], SETTINGS, 1000.0) == []
    fill(fleet[1], 11, 9)
    assert sweep([fleet], SETTINGS, 1000.0) == [("b", "success_rate")]


def test_the_last_of_any_tier_stays() -> None:
    a, b = regions(0.1, 0.1)
    fill(a, 100, 0)
    fill(b, 0, 100)
    assert sweep([[a, b], [b]], SETTINGS, 1000.0) == [], "in its own tier nobody could stand in for it"


def test_peers_that_keep_some_waiting_as_long_excuse_a_wait() -> None:
    a, b, c = regions(0.1, 0.1, 0.1)
    clock = Clock([a, b, c])
    clock.run(5, {"a": 0.1, "b": 0.1, "c": 0.1})
    for region, wait_s in ((a, 8.0), (b, 9.0), (c, 20.0)):
        region.waiting, region.oldest_wait_s = 5, wait_s
    assert clock.run(30) == []
