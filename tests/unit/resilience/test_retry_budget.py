"""What live traffic allows in second sends."""

import pytest

from router.resilience.retry_budget import RetryBudget
from router.resilience.settings import RetrySettings

USUAL = RetrySettings(budget_share=0.2, budget_window_s=10.0, budget_floor_per_s=1.0)


def steady(rate: int, seconds: float, settings: RetrySettings = USUAL) -> RetryBudget:
    """A budget after so much traffic, from 0 on."""
    budget = RetryBudget(settings, 0.0)
    for number in range(int(rate * seconds)):
        budget.request(number / rate)
    return budget


def spent(budget: RetryBudget, now: float) -> int:
    count = 0
    while budget.spend(now):
        count += 1
    return count


def test_a_quiet_router_has_the_floor() -> None:
    assert spent(RetryBudget(USUAL, 0.0), 0.0) == 10


def test_traffic_deposits_its_share_of_a_window() -> None:
    """Nine full tenths and the one that runs, which has only begun."""
    assert steady(100, 60.0).left(60.0) == pytest.approx(0.2 * 900, abs=21)


def test_a_region_that_dies_is_retried_in_full_at_once() -> None:
    """A third of what is in flight fails at one instant; first bytes take up to five seconds."""
    assert spent(steady(100, 60.0), 60.0) >= 100 * 5 / 3


def test_a_total_outage_is_not_multiplied() -> None:
    """Every request fails at once, and asks for two more sends each time."""
    budget, rate = steady(100, 60.0), 100
    sends = 0
    for number in range(rate * 60):
        now = 60.0 + number / rate
        budget.request(now)
        sends += 1 + budget.spend(now) + budget.spend(now)
    assert sends <= 1.2 * rate * 60


def test_what_was_spent_is_missing_for_a_window_and_then_back() -> None:
    budget = RetryBudget(USUAL, 0.0)
    assert spent(budget, 0.5) == 10
    assert spent(budget, 9.9) == 0
    assert spent(budget, 11.1) == 10


def test_a_long_silence_leaves_the_floor_only() -> None:
    budget = steady(100, 60.0)
    assert spent(budget, 10_000.0) == 10


def test_no_floor_and_no_traffic_is_no_retry() -> None:
    budget = RetryBudget(RetrySettings(0.05, 60.0, 0.0), 0.0)
    for number in range(19):
        budget.request(float(number))
    assert not budget.spend(19.0)
    budget.request(19.0)
    assert budget.spend(19.0)
    assert not budget.spend(19.0)
