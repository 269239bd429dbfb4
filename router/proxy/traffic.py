"""One workload, alive: what its requests may still spend, and how many run."""

from router.model.policy import Policy
from router.resilience.hedging import HedgePolicy
from router.resilience.retry_budget import RetryBudget
from router.resilience.settings import RetrySettings


class Traffic:
    """Survives reloads while the workload's policy is unchanged."""

    __slots__ = ("_settings", "hedged", "hedging", "max_wait_s", "name", "objective_s", "policy", "retried", "retries")

    def __init__(self, name: str, policy: Policy, settings: RetrySettings, now: float) -> None:
        self.name = name
        self.policy = policy
        self.retries = RetryBudget(settings, now)
        self.hedging = HedgePolicy(policy.hedge, now) if policy.hedge is not None else None
        self.max_wait_s = policy.max_wait_ms / 1000
        self.objective_s = policy.ttft_objective_ms / 1000 if policy.ttft_objective_ms is not None else None
        self.retried = self.hedged = 0  # since the start
        self._settings = settings

    def like(self, policy: Policy, settings: RetrySettings) -> bool:
        return self.policy == policy and self._settings == settings
