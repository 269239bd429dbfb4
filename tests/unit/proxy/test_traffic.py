"""A workload's live side: units as the data plane wants them, kept over reloads while the policy is the same."""

from dataclasses import replace

from router.model.policy import Hedge, Policy, Priority
from router.proxy.traffic import Traffic
from router.resilience.settings import RetrySettings

POLICY = Policy(max_wait_ms=250.0, ttft_objective_ms=1500.0, hedge=Hedge(after_ms=40.0))


def test_milliseconds_become_seconds() -> None:
    traffic = Traffic("internal", POLICY, RetrySettings(), 0.0)
    assert (traffic.max_wait_s, traffic.objective_s) == (0.25, 1.5)
    assert traffic.hedging is not None
    assert (traffic.retried, traffic.hedged) == (0, 0)


def test_what_a_policy_leaves_out_is_off() -> None:
    traffic = Traffic("internal", Policy(), RetrySettings(), 0.0)
    assert traffic.objective_s is None
    assert traffic.hedging is None


def test_any_change_of_policy_or_budget_begins_anew() -> None:
    traffic = Traffic("internal", POLICY, RetrySettings(), 0.0)
    assert traffic.like(replace(POLICY), RetrySettings())
    for other in (
        replace(POLICY, priority=Priority.LOW),
        replace(POLICY, max_wait_ms=0.0),
        replace(POLICY, ttft_objective_ms=None),
        replace(POLICY, holder_attempts=1),
        replace(POLICY, hedge=None),
        replace(POLICY, affinity=True),
    ):
        assert not traffic.like(other, RetrySettings())
    assert not traffic.like(POLICY, RetrySettings(budget_share=0.5))


def test_the_budget_is_the_workloads_own() -> None:
    """What one workload spends on retries is nobody else's."""
    settings = RetrySettings(budget_share=0.0, budget_window_s=10.0, budget_floor_per_s=0.1)
    one, other = (Traffic(name, POLICY, settings, 0.0) for name in ("one", "other"))
    assert one.retries.spend(0.0)
    assert not one.retries.spend(0.0)
    assert other.retries.spend(0.0)
