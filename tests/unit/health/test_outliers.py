"""What is worse than its peers goes, as far as its tier can spare it, and comes back on trial."""

import random

from router.health.health import Health
from router.health.outliers import sweep
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
