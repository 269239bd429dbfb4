"""The gradient limit finds how much a deployment takes, and leaves alone what is merely noisy."""

from statistics import median

import pytest

from router.limits.concurrency import GradientLimit
from router.limits.settings import LimitSettings
from tests.unit.limits.simulated_deployment import Load, exponential, lognormal

PLENTY = 20_000  # servers: nobody ever queues


@pytest.mark.parametrize("servers", [10, 30])
@pytest.mark.parametrize("load", [1.5, 5.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_behind_a_queue_it_comes_to_a_few_times_the_servers(servers: int, load: float, seed: int) -> None:
    run = Load(servers, lambda _: load * servers, exponential(1.0), seed=seed).run(gradient(), 900.0)
    settled = run.limits[300:]
    assert servers <= median(settled) <= 3 * servers
    assert run.served >= 0.8 * servers * 900.0, "the servers have work"


def test_a_generous_start_comes_down_to_a_queue_as_well() -> None:
    """Nobody is refused for a limit that nothing speaks for, and far below it a queue is found all the same."""
    run = Load(30, lambda _: 45.0, exponential(1.0)).run(gradient(start=1000), 900.0)
    assert 30 <= median(run.limits[300:]) <= 90
    assert run.served >= 0.8 * 30 * 900.0


def test_a_queue_that_was_there_from_the_start_is_found() -> None:
    limit = gradient()
    for _ in range(50):
        limit.observe(10.0, 100, 0.0)
    assert limit.usual_s == pytest.approx(10.0, rel=0.01), "the first time it sees"
    run = Load(10, lambda _: 50.0, exponential(1.0)).run(limit, 900.0)
    assert 10 <= median(run.limits[300:]) <= 30


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("needed", [20, 60, 90])
def test_noise_alone_refuses_nobody(needed: int, seed: int) -> None:
    run = Load(PLENTY, lambda _: needed / 1.65, lognormal(lambda _: 1.0, 1.0), seed=seed).run(gradient(), 600.0)
    assert run.elsewhere <= 0.01 * run.served
    assert median(run.limits) >= needed


def test_a_healthy_deployment_is_given_more_than_the_start() -> None:
    run = Load(PLENTY, lambda _: 120.0, lognormal(lambda _: 1.0, 1.0)).run(gradient(), 300.0)
    assert min(run.limits[120:]) >= 250, "198 on average are in flight"


def test_longer_prompts_are_no_queue() -> None:
    run = Load(PLENTY, lambda _: 40.0, lognormal(lambda now: 1.0 if now < 200.0 else 4.0, 1.0)).run(gradient(), 500.0)
    assert min(run.limits[300:]) >= 300, "264 on average are in flight"


def test_a_drop_takes_a_tenth_once_a_moment() -> None:
    limit = gradient()
    limit.dropped(60, 10.0)
    assert limit.limit == 90
    limit.dropped(59, 10.5)
    assert limit.limit == 90, "of the same moment"
    limit.dropped(58, 11.5)
    assert limit.limit == 81
    for i in range(100):
        limit.dropped(limit.limit, 20.0 + 2 * i)
    assert limit.limit == LimitSettings().concurrency_min


def test_a_drop_while_hardly_anything_runs_says_nothing_of_the_limit() -> None:
    limit = gradient()
    limit.dropped(3, 10.0)
    assert limit.limit == 100


def test_being_told_that_it_was_too_many_goes_below_that_at_once() -> None:
    limit = gradient()
    limit.dropped(10, 10.0, too_many=True)
    assert limit.limit == 9


def test_a_providers_own_limit_is_never_passed() -> None:
    limit = GradientLimit(LimitSettings(), 1000, fixed=25)
    assert limit.limit == 25
    for i in range(5000):
        limit.observe(0.2, 25, i / 50)
        assert limit.limit <= 25
    assert limit.limit == 25


def test_a_squeeze_that_is_not_obeyed_ends() -> None:
    limit, now, limits = gradient(), 0.0, []
    for i in range(10_000):
        now += 0.02
        slow = i >= 3000
        limit.observe(1.0 if slow else 0.2, 1000 if slow else 100, now)  # whoever sends does not look at the limit
        limits.append(limit.limit)
    before, lowest = limits[2999], min(limits[3000:])
    assert lowest <= before / 2, "it was tried"
    assert limits[3000:].count(before) > 0.2 * 7000, "and given up each time"


def test_long_streams_are_not_waited_for_at_the_start() -> None:
    """Two hundred streams of twenty seconds where the limit starts at one hundred: half a minute is enough."""
    run = Load(PLENTY, lambda _: 10.0, lognormal(lambda _: 0.5, 0.8), stream_s=20.0).run(gradient(), 120.0)
    assert run.limits[-1] >= 250
    assert run.elsewhere <= 0.1 * (run.served + run.elsewhere)


def test_an_operator_can_switch_it_off() -> None:
    limit = GradientLimit(LimitSettings(adaptive=False), 1000)
    limit.dropped(10, 1.0)
    Load(10, lambda _: 50.0, exponential(1.0)).run(limit, 100.0)
    assert limit.limit == 1000


def gradient(start: int = 100) -> GradientLimit:
    return GradientLimit(LimitSettings(concurrency_start=start), 1000)
