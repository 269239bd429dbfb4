"""The retry budget's law, for any traffic."""

from hypothesis import given
from hypothesis import strategies as st

from router.resilience.retry_budget import RetryBudget
from router.resilience.settings import RetrySettings

SETTINGS = st.builds(
    RetrySettings, st.floats(0.0, 1.0), st.sampled_from([1.0, 10.0, 60.0]), st.sampled_from([0.0, 0.5, 1.0, 10.0])
)
# Seconds that pass, then how many requests come and how many retries are asked for.
STEPS = st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=60)


@given(SETTINGS, STEPS, st.floats(0.0, 1e6))
def test_no_window_spends_more_than_its_requests_allow(
    retries: RetrySettings, steps: list[tuple[float, int, int]], now: float
) -> None:
    """At every spend: the window's, this one included, are at most max(share × its requests, floor × window)."""
    budget = RetryBudget(retries, now)
    requests: list[float] = []
    spends: list[float] = []
    for passed_s, asked, wanted in steps:
        now += passed_s
        for _ in range(asked):
            budget.request(now)
            requests.append(now)
        for _ in range(wanted):
            left = budget.left(now)
            took = budget.spend(now)
            assert took is (left >= 1.0)
            if not took:
                break
            spends.append(now)
            since = now - retries.budget_window_s
            spent = sum(at > since for at in spends)
            deposited = retries.budget_share * sum(at >= since for at in requests)
            assert spent <= max(deposited, retries.budget_floor_per_s * retries.budget_window_s) + 1e-6


@given(SETTINGS, STEPS)
def test_a_silent_window_restores_the_floor(retries: RetrySettings, steps: list[tuple[float, int, int]]) -> None:
    budget, now = RetryBudget(retries, 0.0), 0.0
    for passed_s, asked, wanted in steps:
        now += passed_s
        for _ in range(asked):
            budget.request(now)
        for _ in range(wanted):
            budget.spend(now)
    now += 1.2 * retries.budget_window_s
    assert budget.left(now) == retries.budget_floor_per_s * retries.budget_window_s
