"""What workers tell one another: everybody ends up knowing what all know, and nothing is told for ever."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.balancing.meter import Meter
from router.health.breaker import Phase
from router.health.health import Health
from router.health.settings import HealthSettings
from router.health.verdict import State
from router.jobs.sharing import Changes, Picture, Sharing
from router.limits.quota_twin import QuotaTwin
from router.proxy.backend import Quota, Standing

HEALTH = HealthSettings()


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
            name: SimpleNamespace(
                quota=quota, cooldown=Quota(None).cooldown, health=Health(HEALTH, random.Random(1)), meter=Meter(10.0)
            )
            for name, quota in (("a/1", pool), ("a/2", pool), ("b/1", own))
        }
        targets = [SimpleNamespace(id=name, backend=backend) for name, backend in self.backends.items()]
        self.plans = {"all": SimpleNamespace(tiers=[SimpleNamespace(targets=targets)])}

    def cool(self, name: str, reason: str, wait_s: float | None, now: float) -> None:
        """By a word about the quota that it draws on, as the life of a request does it; or by one about itself."""
        backend = self.backends[name]
        (backend.quota.cooldown if reason == "throttled" else backend.cooldown).start(reason, wait_s, now)
        self.standing.changed()

    def eject(self, name: str, now: float) -> None:
        self.health(name).eject("slow", now)
        self.standing.changed()

    def health(self, name: str) -> Health:
        health = self.backends[name].health
        assert isinstance(health, Health)
        return health

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
        self.sharings = [self.sharing(index) for index in range(size)]

    def sharing(self, index: int) -> Sharing:
        def tell(changes: Changes) -> None:
            self.told.append(changes)
            for other, sharing in enumerate(self.sharings):
                if other != index:
                    sharing.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(changes), type=Changes))

        loop = cast(asyncio.AbstractEventLoop, self.clock)
        return Sharing(loop, cast(Any, self.fleets[index]), tell, lambda _job, _error: None)

    def introduce(self, index: int) -> None:
        """As the supervisor does with one that starts; in the form that the picture has on its way."""
        picture = msgspec.msgpack.encode(self.sharings[0].picture())
        self.sharings[index].begin_with(msgspec.msgpack.decode(picture, type=Picture))

    def share(self) -> None:
        for sharing in self.sharings:
            sharing.share(self.clock.now)


def test_a_429_that_one_saw_stops_all() -> None:
    crew = Crew(3)
    epoch = crew.fleets[1].standing.epoch
    crew.fleets[0].cool("a/2", "throttled", 30.0, crew.clock.now)
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
    crew.fleets[0].cool("a/2", "missing", None, crew.clock.now)
    crew.share()
    assert crew.fleets[1].backends["a/2"].cooldown.reason == "missing"
    assert not crew.fleets[1].backends["a/1"].cooldown.active(crew.clock.now)


def test_a_longer_wait_is_told_again_and_a_shorter_one_shortens_nothing() -> None:
    crew = Crew(2)
    for worker, wait_s in ((0, 10.0), (1, 30.0), (0, 5.0)):
        crew.fleets[worker].cool("b/1", "throttled", wait_s, crew.clock.now)
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
    crew.fleets[0].cool("b/1", "throttled", 30.0, crew.clock.now)

    crew.introduce(1)

    assert crew.fleets[1].twin("a/1").wait_s(2000, crew.clock.now) > 0.0
    assert crew.fleets[1].backends["b/1"].quota.cooldown.active(crew.clock.now)
    crew.share()
    assert crew.fleets[1].twin("a/1").charged == (5000, 0), "what it was told of once is not told again"


def test_what_is_told_of_a_deployment_that_is_not_here_is_nothing() -> None:
    crew = Crew(2)
    del crew.fleets[1].backends["b/1"]
    crew.fleets[0].twin("b/1").charge(10, crew.clock.now)
    crew.fleets[0].cool("b/1", "missing", None, crew.clock.now)
    crew.fleets[0].eject("b/1", crew.clock.now)
    crew.share()
    assert len(crew.told) == 1


def test_one_that_is_out_for_one_is_out_for_all_and_so_it_comes_back() -> None:
    crew = Crew(3)
    now = crew.clock.now
    for _ in range(HEALTH.consecutive_failures):
        crew.fleets[0].health("a/2").failed(crew.fleets[0].health("a/2").begin(now), "timeout", now)
    crew.fleets[0].standing.changed()
    crew.share()

    verdicts = {fleet.health("a/2").verdict(now) for fleet in crew.fleets}
    assert [(verdict.state, verdict.reason) for verdict in verdicts] == [(State.EJECTED, "timeout")]
    assert {fleet.health("a/2").refusal(now) for fleet in crew.fleets} == {"unhealthy"}
    assert {fleet.health("a/1").refusal(now) for fleet in crew.fleets} == {""}
    crew.told.clear()
    crew.share()
    assert not crew.told, "nobody tells back what it was told"

    now = crew.clock.now = verdicts.pop().until + 0.01
    probed = crew.fleets[1].health("a/2")
    probed.succeeded(probed.begin(now), now)
    crew.fleets[1].standing.changed()
    crew.share()
    assert [fleet.health("a/2").phase(now) for fleet in crew.fleets] == [Phase.RECOVERING] * 3
    assert len({fleet.health("a/2").ramp(now + 5.0) for fleet in crew.fleets}) == 1


def test_two_that_eject_at_the_same_moment_leave_a_tier_what_must_stay() -> None:
    """Of three one may go. Whom each took out stays out for itself."""
    crew = Crew(2)
    now = crew.clock.now
    crew.fleets[0].eject("a/1", now)
    crew.fleets[1].eject("b/1", now)
    crew.share()
    assert [[name for name in fleet.backends if fleet.health(name).out] for fleet in crew.fleets] == [["a/1"], ["b/1"]]


def test_who_starts_knows_who_is_out_who_ramps_and_how_fast_all_are() -> None:
    crew = Crew(2)
    now = crew.clock.now
    old, new = crew.fleets
    old.eject("a/1", now)
    old.health("b/1").condemn("credential", now, 5.0)
    old.health("b/1").release(now + 6.0)
    old.backends["a/2"].meter.observe(0.5, SimpleNamespace(stream=True, prompt_tokens=0), now)
    now = crew.clock.now = now + 7.0

    crew.introduce(1)

    assert new.health("a/1").verdict(now) == old.health("a/1").verdict(now)
    assert new.health("b/1").ramp(now) == old.health("b/1").ramp(now) < 1.0
    assert new.health("a/2").clear
    assert new.backends["a/2"].meter.cost_s(True, now) == old.backends["a/2"].meter.cost_s(True, now) > 0.0


def test_who_starts_has_the_minute_and_the_slices_of_the_others() -> None:
    crew = Crew(1)
    old, clock = crew.fleets[0].twin("b/1"), crew.clock
    clock.now += 40.0
    old.charge(5000, clock.now)
    for _ in range(80):
        old.charge(0, clock.now)
    clock.now += 5.0
    crew.fleets.append(Fleet(clock.now))
    crew.sharings.append(crew.sharing(1))

    crew.introduce(1)

    new = crew.fleets[1].twin("b/1")
    assert new.tokens_left(clock.now) == old.tokens_left(clock.now)
    assert new.minute_ends_at(clock.now) == old.minute_ends_at(clock.now)
    assert new.requests_left(clock.now) == old.requests_left(clock.now) < 20
    clock.now += 5.5
    assert new.requests_left(clock.now) == old.requests_left(clock.now) == 100


def test_two_thousand_changes_are_told_in_messages_of_a_bounded_size_and_once() -> None:
    crew = Crew(1)
    fleet = crew.fleets[0]
    fleet.backends = {f"d/{index}": Fleet(crew.clock.now).backends["b/1"] for index in range(2000)}
    for index in range(2000):
        fleet.cool(f"d/{index}", "missing", None, crew.clock.now)
        fleet.eject(f"d/{index}", crew.clock.now)
        fleet.twin(f"d/{index}").charge(7, crew.clock.now)
    crew.share()

    assert max(max(map(len, (each.cooling, each.spent, each.ailing))) for each in crew.told) <= 512
    assert len({entry.deployment for each in crew.told for entry in each.cooling}) == 2000
    assert len({entry.deployment for each in crew.told for entry in each.ailing}) == 2000
    assert sum(entry.tokens for each in crew.told for entry in each.spent) == 14_000
    told = len(crew.told)
    crew.share()
    assert len(crew.told) == told == 4


def test_the_age_of_what_is_told_counts_from_the_look_before() -> None:
    crew = Crew(2)
    crew.clock.now += 0.07
    crew.fleets[0].twin("b/1").charge(1, crew.clock.now)
    crew.share()
    (buckets,) = crew.sharings[1].reading().histograms["router_worker_news_age_seconds"].values()
    assert buckets.counts == [0, 0, 0, 1, 0, 0, 0]
    assert buckets.sum == pytest.approx(0.07)
