"""The life of one deployment's health, step by step."""

import random
from math import inf

import pytest

from router.health.breaker import DEAD_PERMIT
from router.health.health import CALM_S, Health
from router.health.settings import HealthSettings
from router.health.verdict import State, Verdict, merged

SETTINGS = HealthSettings()


def health(settings: HealthSettings = SETTINGS) -> Health:
    return Health(settings, random.Random(1))


def fail(one: Health, now: float, times: int = 1, reason: str = "server_error") -> list[str]:
    return [one.failed(one.begin(now), reason, now) for _ in range(times)]


def opened(now: float = 0.0) -> Health:
    one = health()
    fail(one, now, SETTINGS.consecutive_failures)
    assert one.refusal(now) == "unhealthy"
    return one


def until_probing(one: Health, now: float) -> float:
    """The moment at which a request may try it again."""
    until = one.until
    assert one.refusal(until - 0.001) != ""
    assert one.refusal(until) == ""
    assert until > now
    return until


def test_failures_in_a_row_open_it_and_a_success_between_does_not_let_them() -> None:
    one = health()
    assert fail(one, 1.0, 4) == [""] * 4
    one.succeeded(one.begin(1.0), 1.0)
    assert fail(one, 2.0, 5) == ["", "", "", "", "opened"]
    assert not one.clear
    assert one.verdict(2.0) == Verdict(State.EJECTED, "server_error", one.until)
    assert 2.0 + SETTINGS.open_s / 2 <= one.until <= 2.0 + SETTINGS.open_s


def test_the_open_time_ends_with_a_single_probe() -> None:
    one = opened()
    now = until_probing(one, 0.0)
    probe = one.begin(now)
    assert one.refusal(now) == "unhealthy", "the slot is taken"
    assert one.begin(now) == DEAD_PERMIT
    assert one.verdict(now).state is State.PROBING
    one.ignored(probe, now)
    assert one.refusal(now) == "", "and free again"
    assert one.failed(one.begin(now), "timeout", now) == "reopened"


def test_a_good_probe_begins_a_slow_start() -> None:
    one = opened()
    now = until_probing(one, 0.0)
    one.succeeded(one.begin(now), now)
    assert one.refusal(now) == ""
    assert [round(one.ramp(now + second), 3) for second in (0, 1, 5, 9)] == [0.1, 0.1, 0.5, 0.9]
    assert one.verdict(now + 5) == Verdict(State.DEGRADED, "slow_start", now + 10)
    assert not one.clear
    assert one.ramp(now + 10) == 1.0
    assert one.clear
    assert one.verdict(now + 10) == Verdict(State.UP)


def test_what_began_on_the_ramp_counts_after_it() -> None:
    one = opened()
    now = until_probing(one, 0.0)
    one.succeeded(one.begin(now), now)
    permits = [one.begin(now + 9) for _ in range(5)]
    assert one.ramp(now + 11) == 1.0
    assert [one.failed(permit, "broken", now + 11) for permit in permits][-1] == "opened"


def test_open_times_double_and_fall_back_with_health() -> None:
    one = opened()
    now = 0.0
    ceilings = []
    for _ in range(30):
        now = until_probing(one, now)
        assert fail(one, now) == ["reopened"]
        ceilings.append(one.until - now)
    for times, open_s in enumerate(ceilings, start=2):
        ceiling = min(SETTINGS.open_s * 2 ** (times - 1), SETTINGS.open_s_max)
        assert ceiling / 2 <= open_s <= ceiling

    now = until_probing(one, now)
    one.succeeded(one.begin(now), now)
    for _ in range(8 * 8):
        now += CALM_S / 8
        one.tick(now)
    fail(one, now, 5)
    assert one.until - now <= SETTINGS.open_s, "what is beyond the longest time need not be made good"


def test_ejection_times_grow_and_fall_back_with_health() -> None:
    one = health()
    now, times_out = 0.0, []
    for _ in range(50):
        one.eject("slow", now)
        times_out.append(one.until - now)
        now = until_probing(one, now)
        one.recover(now)
    for times, out_s in enumerate(times_out, start=1):
        assert min(9.0 * times, 270.0) <= out_s <= min(11.0 * times, 300.0)
    for _ in range(31 * 8):
        now += CALM_S / 8
        one.tick(now)
    one.eject("slow", now)
    assert one.until - now <= 11.0


def test_an_old_permit_decides_nothing() -> None:
    one = health()
    old = one.begin(0.0)
    fail(one, 0.0, 5)
    now = until_probing(one, 0.0)
    probe = one.begin(now)
    one.succeeded(old, now)
    assert one.refusal(now) == "unhealthy", "still one probe, and nobody beside it"
    assert one.failed(old, "broken", now) == ""
    one.succeeded(probe, now)
    assert one.ramp(now) == 0.1


def test_a_condemned_one_is_out_until_pardoned_or_its_time_is_over() -> None:
    one = health()
    running = one.begin(0.0)
    one.condemn("credential", 0.0, 30.0)
    one.succeeded(running, 1.0)
    one.probed(True, 1.0)
    assert one.refusal(29.9) == "unhealthy"
    assert one.verdict(1.0) == Verdict(State.EJECTED, "credential", 30.0)
    one.pardon()
    assert one.refusal(1.0) == ""
    assert one.verdict(1.0).state is State.PROBING
    one.condemn("credential", 2.0, inf)
    assert one.refusal(1e9) == "unhealthy"


class TestActiveProbes:
    def test_shorten_an_open_time_once(self) -> None:
        one = opened()
        one.probed(True, 0.1)
        assert one.refusal(0.1) == ""
        assert fail(one, 0.1) == ["reopened"], "real traffic fails all the same"
        one.probed(True, 0.2)
        assert one.refusal(0.2) == "unhealthy", "so the probe has lost its say"
        one.probed(False, 0.3)
        one.probed(True, 0.4)
        assert one.refusal(0.4) == "", "until it saw the failure, too, and its end"

    @pytest.mark.parametrize("reason", ["slow", "success_rate"])
    def test_shorten_no_ejection(self, reason: str) -> None:
        one = health()
        one.eject(reason, 0.0)
        one.probed(True, 1.0)
        assert one.refusal(1.0) == ("slow" if reason == "slow" else "unhealthy")

    def test_open_and_close_where_there_is_no_traffic(self) -> None:
        one = health()
        assert one.verdict(0.0) == Verdict(State.UNKNOWN, "no_traffic")
        one.probed(True, 0.0)
        assert one.verdict(0.0) == Verdict(State.UP)
        for second in (10.0, 20.0, 30.0):
            assert one.clear
            one.probed(False, second)
        assert one.verdict(30.0).reason == "unreachable"
        one.probed(True, 31.0)
        assert one.refusal(31.0) == ""
        assert one.ramp(31.0) == 0.1

    def test_say_nothing_against_traffic_that_works(self) -> None:
        one = health()
        for second in range(100):
            one.succeeded(one.begin(second), second)
            one.probed(False, second)
        assert one.clear

    def test_may_not_know(self) -> None:
        one = opened()
        one.probed(None, 0.1)
        assert one.refusal(0.1) == "unhealthy"


def test_a_slow_one_is_tried_again_and_left_to_the_sweep() -> None:
    forgotten = []
    one = Health(SETTINGS, random.Random(1), lambda: forgotten.append(True))
    one.eject("slow", 0.0)
    assert one.refusal(1.0) == "slow"
    now = until_probing(one, 0.0)
    assert forgotten == [True], "what was measured before its probation is void"
    one.succeeded(one.begin(now), now)
    assert one.on_trial
    one.recover(now)
    assert one.ramp(now) == 0.1


def test_without_a_slow_start_it_is_back_at_once() -> None:
    one = health(HealthSettings(slow_start_s=0.0))
    one.eject("success_rate", 0.0)
    now = until_probing(one, 0.0)
    one.succeeded(one.begin(now), now)
    assert one.ramp(now) == 1.0
    assert one.clear


@pytest.mark.parametrize("state", [State.UP, State.EJECTED, State.PROBING, State.DEGRADED, State.UNKNOWN])
def test_verdicts_merge_by_who_has_the_say(state: State) -> None:
    own = Verdict(state, "r")
    assert merged(own, 10.0) == own
    assert merged(own, 10.0, throttled_until=10.0) == own, "it is over"
    throttled = merged(own, 10.0, throttled_until=11.0)
    assert throttled == (own if state is State.EJECTED else Verdict(State.THROTTLED, "throttled", 11.0))
    assert merged(own, 10.0, throttled_until=11.0, draining=True).state is State.DRAINING
