"""What workers tell one another: everybody ends up knowing what all know, and nothing is told for ever."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.jobs.sharing import Changes, Sharing
from router.limits.quota_twin import QuotaTwin
from router.proxy.backend import Quota, Standing


class Clock:
    """The loop's, as far as this job reads it; as late as the cooldowns need."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


class Fleet:
    """Two deployments that draw on one quota, and one with its own."""

    def __init__(self, now: float) -> None:
        pool, own = (Quota(QuotaTwin(6000, 600, now), (6000, 600)) for _ in range(2))
        self.standing = Standing()
        self.backends = {
            name: SimpleNamespace(quota=quota, cooldown=Quota(None).cooldown)
            for name, quota in (("a/1", pool), ("a/2", pool), ("b/1", own))
        }

    def twin(self, name: str) -> QuotaTwin:
        twin = self.backends[name].quota.twin
        assert isinstance(twin, QuotaTwin)
        return twin


class Crew:
    """Workers whose words reach the others at once."""

    def __init__(self, size: int) -> None:
        self.clock = Clock()
        self.fleets = [Fleet(self.clock.now) for _ in range(size)]
        self.told: list[Changes] = []
        self.sharings = [self._sharing(index) for index in range(size)]

    def _sharing(self, index: int) -> Sharing:
        def tell(changes: Changes) -> None:
            self.told.append(changes)
            for other, sharing in enumerate(self.sharings):
                if other != index:
                    sharing.apply(changes)

        loop = cast(asyncio.AbstractEventLoop, self.clock)
        return Sharing(loop, cast(Any, self.fleets[index]), tell, lambda _job, _error: None)

    def share(self) -> None:
        for sharing in self.sharings:
            sharing.share(self.clock.now)


def test_a_429_that_one_saw_stops_all() -> None:
    crew = Crew(3)
    epoch = crew.fleets[1].standing.epoch
    crew.fleets[0].backends["a/2"].quota.cooldown.start("throttled", 30.0, crew.clock.now)
    crew.share()

    for fleet in crew.fleets:
        cooldown = fleet.backends["a/1"].quota.cooldown
        assert cooldown.left_s(crew.clock.now) == 30.0
        assert cooldown.reason == "throttled"
        assert not fleet.backends["b/1"].quota.cooldown.active(crew.clock.now)
        assert not fleet.backends["a/1"].cooldown.active(crew.clock.now)
    assert crew.fleets[1].standing.epoch > epoch, "who remembers what may be asked must look again"


def test_a_deployment_that_is_missing_is_missing_for_all() -> None:
    crew = Crew(2)
    crew.fleets[0].backends["a/2"].cooldown.start("missing", None, crew.clock.now)
    crew.share()
    assert crew.fleets[1].backends["a/2"].cooldown.reason == "missing"
    assert not crew.fleets[1].backends["a/1"].cooldown.active(crew.clock.now)


def test_a_longer_wait_is_told_again_and_a_shorter_one_shortens_nothing() -> None:
    crew = Crew(2)
    for worker, wait_s in ((0, 10.0), (1, 30.0), (0, 5.0)):
        crew.fleets[worker].backends["b/1"].quota.cooldown.start("throttled", wait_s, crew.clock.now)
        crew.share()
    assert [fleet.backends["b/1"].quota.cooldown.left_s(crew.clock.now) for fleet in crew.fleets] == [30.0, 30.0]
    assert len(crew.told) == 2


def test_what_one_spends_is_missing_for_all() -> None:
    crew = Crew(2)
    crew.fleets[0].twin("a/1").charge(5000, crew.clock.now)
    assert crew.fleets[1].twin("a/2").wait_s(2000, crew.clock.now) == 0.0
    crew.share()
    assert crew.fleets[1].twin("a/2").wait_s(2000, crew.clock.now) > 0.0
    assert crew.fleets[1].twin("b/1").wait_s(2000, crew.clock.now) == 0.0


def test_requests_of_others_fill_the_slice() -> None:
    crew = Crew(2)
    for _ in range(100):
        crew.fleets[0].twin("b/1").charge(0, crew.clock.now)
    crew.share()
    assert crew.fleets[1].twin("b/1").requests_left(crew.clock.now) == 0


def test_a_minute_is_divided_among_the_keys_of_all() -> None:
    """One key floods one worker, another asks the other: there as well its part is kept for it."""
    crew = Crew(2)
    now = crew.clock.now
    first, second = (fleet.backends["b/1"].quota for fleet in crew.fleets)
    for quota in (first, second):
        assert quota.twin is not None
        quota.twin.charge(5880, now)
    second.turned_away("small", 1.0, 1, 100, now)
    crew.share()
    assert first.shares is not None
    now = crew.clock.now = now + 60.0  # a new minute
    for _ in range(40):
        first.turned_away("flood", 1.0, 1, 100, now)
        if not first.twin.wait_s(100, now) and not first.share_wait_s("flood", 1.0, 1, 100, now):
            first.twin.charge(100, now)
            first.shares.charge("flood", 1.0, 1, 100)
        crew.share()
        now = crew.clock.now = now + 0.3
    kept = 5880 / 2 * 48 / 60  # what the other is expected to want in the rest of the minute
    assert first.shares.uses["flood"].used == pytest.approx(0.98 * 5880 - kept, abs=150)
    assert second.shares is not None
    assert second.shares.uses["flood"].used == first.shares.uses["flood"].used
    assert second.share_wait_s("small", 1.0, 1, int(kept), now) == 0.0


STEPS = st.tuples(st.integers(0, 2), st.sampled_from(["a/1", "a/2", "b/1"]), st.integers(0, 900), st.booleans())


@given(st.lists(STEPS, max_size=60))
def test_all_count_the_same_in_the_end_and_then_are_silent(steps: list[tuple[int, str, int, bool]]) -> None:
    """Whatever is charged and taken back, by whom and in which order; nothing is counted twice or told back."""
    crew = Crew(3)
    sent = {"a/1": 0, "b/1": 0}
    requests = dict(sent)
    for worker, name, tokens, taken_back in steps:
        twin, quota = crew.fleets[worker].twin(name), name if name == "b/1" else "a/1"
        twin.charge(tokens, crew.clock.now)
        requests[quota] += 1
        if taken_back:
            twin.refund(tokens, crew.clock.now)
        else:
            sent[quota] += tokens
        if tokens % 3 == 0:
            crew.sharings[worker].share(crew.clock.now)
    crew.share()

    for name, tokens in sent.items():
        assert [fleet.twin(name).charged[0] for fleet in crew.fleets] == [tokens] * 3
        assert sum(fleet.twin(name).charged[1] for fleet in crew.fleets) == requests[name]
    crew.told.clear()
    crew.share()
    assert not crew.told


def test_who_starts_does_not_begin_with_a_quota_of_its_own() -> None:
    crew = Crew(2)
    crew.fleets[0].twin("a/1").charge(5000, crew.clock.now)
    crew.fleets[0].backends["b/1"].quota.cooldown.start("throttled", 30.0, crew.clock.now)

    crew.sharings[1].apply(crew.sharings[0].picture())

    assert crew.fleets[1].twin("a/1").wait_s(2000, crew.clock.now) > 0.0
    assert crew.fleets[1].backends["b/1"].quota.cooldown.active(crew.clock.now)


def test_what_is_told_of_a_deployment_that_is_not_here_is_nothing() -> None:
    crew = Crew(2)
    del crew.fleets[1].backends["b/1"]
    crew.fleets[0].twin("b/1").charge(10, crew.clock.now)
    crew.fleets[0].backends["b/1"].cooldown.start("missing", None, crew.clock.now)
    crew.share()
    assert len(crew.told) == 1
