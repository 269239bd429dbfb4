"""When a copy may go out, and how many."""

from dataclasses import dataclass

import pytest

from router.model.policy import Hedge
from router.resilience.hedging import HedgePolicy


@dataclass
class FirstBytes:
    p95_s: float

    def quantile_s(self, q: float, stream: bool = True) -> float:
        assert q == 0.95
        return self.p95_s if stream else 0.0


def test_a_fixed_wait_is_taken_as_it_is() -> None:
    policy = HedgePolicy(Hedge(after_ms=250.0), 0.0)
    assert policy.after_s(FirstBytes(3.0)) == 0.25


def test_otherwise_the_deployments_own_p95() -> None:
    policy = HedgePolicy(Hedge(), 0.0)
    assert policy.after_s(FirstBytes(1.5)) == 1.5
    assert policy.after_s(FirstBytes(1.5), stream=False) is None
    assert policy.after_s(FirstBytes(0.0)) is None


@pytest.mark.parametrize("share_max", [0.05, 0.2])
def test_at_most_the_share_is_hedged_even_when_all_ask(share_max: float) -> None:
    policy = HedgePolicy(Hedge(share_max=share_max), 0.0)
    hedged = 0
    for number in range(3000):
        now = number * 0.1
        policy.request(now)
        hedged += policy.spend(now)
    assert 0.8 * share_max * 3000 < hedged <= share_max * 3000
