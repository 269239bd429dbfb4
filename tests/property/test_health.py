"""Laws of health: one probe at a time, old verdicts without effect, bounded times, and health for all in the end."""

import random
from math import exp

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.health.breaker import DEAD_PERMIT
from router.health.health import Health
from router.health.outliers import sweep
from router.health.settings import HealthSettings
from router.health.verdict import State

SETTINGS = HealthSettings(consecutive_failures=3, success_rate_requests=10, ejection_s_max=60.0)
REASONS = st.sampled_from(["connect", "timeout", "server_error"])


def inside(health: Health) -> list[object]:
    """All that decides, for comparing."""
    breaker = health.breaker
    return [
        (breaker.phase, breaker.epoch, breaker.since, breaker.until),
        *(getattr(health, name) for name in Health.__slots__ if name not in ("breaker", "_rng", "window", "pace")),
        (health.window.ok, health.window.bad),
    ]


class OneDeployment(RuleBasedStateMachine):
    """Anything may happen to a deployment, in any order; attempts end whenever they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.health = Health(SETTINGS, random.Random(1))
        self.running: list[int] = []
        self.last_ramp: tuple[int, float] = (-1, 0.0)

    @property
    def epoch(self) -> int:
        return self.health.breaker.epoch

    def taken(self, data: st.DataObject) -> int:
        return self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))

    @rule(seconds=st.floats(0.0, 30.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begins(self) -> None:
        refusal = self.health.refusal(self.now)
        permit = self.health.begin(self.now)
        assert refusal in ("", "slow", "unhealthy")
        assert (permit == DEAD_PERMIT) == (refusal != "")
        self.running.append(permit)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), well=st.booleans(), reason=REASONS)
    def ends(self, data: st.DataObject, well: bool, reason: str) -> None:
        permit, before, epoch = self.taken(data), inside(self.health), self.epoch
        if well:
            self.health.succeeded(permit, self.now)
            event = ""
        else:
            event = self.health.failed(permit, reason, self.now)
        if permit != epoch:
            assert inside(self.health) == before, "an old epoch never decides"
            assert event == ""

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def is_ignored(self, data: st.DataObject) -> None:
        permit, before = self.taken(data), inside(self.health)
        self.health.ignored(permit, self.now)
        assert inside(self.health) == before

    @rule(ok=st.sampled_from([True, False, None]))
    def is_probed(self, ok: bool | None) -> None:
        self.health.probed(ok, self.now)

    @precondition(lambda self: not self.health.out)
    @rule(reason=st.sampled_from(["slow", "success_rate"]))
    def is_ejected(self, reason: str) -> None:
        self.health.eject(reason, self.now)

    @precondition(lambda self: self.health.on_trial)
    @rule(fast=st.booleans())
    def trial_ends(self, fast: bool) -> None:
        if fast:
            self.health.recover(self.now)
        else:
            self.health.eject("slow", self.now)

    @precondition(lambda self: self.health.ejected)
    @rule()
    def is_needed(self) -> None:
        self.health.release(self.now)

    @rule(seconds=st.floats(0.0, 60.0))
    def is_condemned(self, seconds: float) -> None:
        self.health.condemn("credential", self.now, seconds)

    @rule()
    def is_pardoned(self) -> None:
        self.health.pardon()

    @rule()
    def is_swept(self) -> None:
        self.health.tick(self.now)

    @invariant()
    def one_probe_at_a_time(self) -> None:
        if self.health.verdict(self.now).state is State.PROBING:
            assert self.running.count(self.epoch) <= 1

    @invariant()
    def is_out_for_a_bounded_time(self) -> None:
        assert self.health.until <= self.now + 60.0

    @invariant()
    def clear_is_what_it_says(self) -> None:
        if self.health.clear:
            assert not self.health.out
            assert self.health.refusal(self.now) == ""
            assert self.health.ramp(self.now) == 1.0

    @invariant()
    def ramp_only_rises(self) -> None:
        ramp = self.health.ramp(self.now)
        assert 0.0 < ramp <= 1.0
        epoch, last = self.last_ramp
        if epoch == self.epoch and not self.health.out:
            assert ramp >= last
        self.last_ramp = self.epoch, ramp


TestOneDeployment = OneDeployment.TestCase
TestOneDeployment.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


class Member:
    def __init__(self, index: int) -> None:
        self.id, self.first_byte_s, self.oldest_wait_s, self.waiting = f"d{index}", 0.0, 0.0, 0
        self.health = Health(SETTINGS, random.Random(index))


members = st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True)
seconds = st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0, 5.0])
step = st.tuples(
    st.integers(0, 7),
    st.sampled_from(["fast", "slow", "waits", "fails", "opens", "works"]),
    seconds,
)


@given(
    st.lists(members, min_size=1, max_size=4),
    st.lists(st.lists(step, max_size=12), min_size=1, max_size=40),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_tier_loses_more_than_its_share_nor_its_last(
    tiers: list[list[int]], steps: list[list[tuple[int, str, float]]], share: float
) -> None:
    limits = HealthSettings(
        consecutive_failures=3, success_rate_requests=10, ejection_s_max=60.0, ejected_share_max=share
    )
    fleet = [Member(index) for index in range(8)]
    groups = [[fleet[index] for index in tier] for tier in tiers]
    now = 1000.0
    for changes in steps:
        now += 0.25
        for index, what, value in changes:
            _change(fleet[index], what, value, now)
        opened = {member.id for member in fleet if member.health.out and not member.health.ejected}
        out_before = {member.id for member in fleet if member.health.out}
        found = sweep(groups, limits, now)

        newly = {name for name, _ in found} - out_before
        for group in groups:
            out = [member for member in group if member.health.out]
            cap = min(int(share * len(group)), len(group) - 1)
            assert len(out) <= max(cap, sum(member.id in opened for member in group))
            if newly & {member.id for member in group}:
                assert len(out) <= cap
        assert len({name for name, _ in found}) == len(found)


def _change(member: Member, what: str, value: float, now: float) -> None:
    health = member.health
    if what in ("fast", "slow"):
        member.first_byte_s = (0.1 if what == "fast" else 2.0) + value / 1000 + now % 1 / 1000
        member.oldest_wait_s, member.waiting = 0.0, 0
    elif what == "waits":
        member.oldest_wait_s, member.waiting = value, 5
    elif not health.refusal(now):
        for _ in range(12 if what == "works" else 3):
            permit = health.begin(now)
            if what == "opens" or (what == "fails" and value):
                health.failed(permit, "server_error", now)
            else:
                health.succeeded(permit, now)


class Region(Member):
    """A deployment with causes of trouble that a script sets."""

    trouble = ""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.health = Health(SETTINGS, random.Random(index), self.forget)

    def forget(self) -> None:
        self.first_byte_s = 0.0

    def serve(self, rng: random.Random, now: float) -> None:
        permit = self.health.begin(now)
        if self.trouble == "fails" or (self.trouble == "flaky" and rng.random() < 0.5):
            self.health.failed(permit, "server_error", now)
            return
        if rng.random() < 0.05:
            self.health.ignored(permit, now)
            return
        took = 0.1 * rng.uniform(0.8, 1.25) * (10.0 if self.trouble == "slow" else 1.0)
        keep = exp(-0.05)
        self.first_byte_s = self.first_byte_s * keep + took * (1 - keep) if self.first_byte_s else took
        self.health.succeeded(permit, now)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_two_hours_of_trouble_end_with_their_causes(seed: int) -> None:
    """Two hours on a fake clock. Then, within the longest time out and a slow start, everything is as if new."""
    rng = random.Random(seed)
    fleet = [Region(index) for index in range(4)]
    groups = [fleet, fleet[:3]]
    now, until = 0.0, 0.0
    served = 0

    def half_a_second() -> None:
        nonlocal now, served
        now += 0.5
        for _ in range(5):
            able = [region for region in fleet if not region.health.refusal(now)]
            if able:
                served += 1
                rng.choice(able).serve(rng, now)
        sweep(groups, SETTINGS, now)

    while now < 7200:
        if now >= until:
            until = now + rng.expovariate(1 / 120)
            for region in fleet:
                region.trouble = rng.choice(["", "", "fails", "flaky", "slow"])
        half_a_second()
    for region in fleet:
        region.trouble = ""
    ended, served_before = now, served
    # Averages need some seconds to forget what was slow and never ejected, which may be ejected for that once more.
    while now < ended + max(SETTINGS.open_s_max, SETTINGS.ejection_s_max) + SETTINGS.slow_start_s + 15:
        half_a_second()
    assert [region.health.clear for region in fleet] == [True] * 4
    assert served > served_before


def test_the_same_seed_gives_the_same_times() -> None:
    one, other = (Health(SETTINGS, random.Random(5)) for _ in range(2))
    for health in (one, other):
        for _ in range(3):
            health.failed(health.begin(1.0), "timeout", 1.0)
    assert one.until == other.until
    assert one.verdict(1.0) == other.verdict(1.0)
