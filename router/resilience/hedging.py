"""When a second copy of a request may be sent while the first has not answered.

After the p95 of first bytes at most 5 % of requests ask for one (Dean, Barroso, "The Tail at Scale"); the share guard
holds that also where the p95 is wrong because everything has just become slow, which is when copies would hurt most.
"""

from typing import Final, Protocol

from router.model.policy import Hedge
from router.resilience.retry_budget import RetryBudget
from router.resilience.settings import RetrySettings

QUANTILE: Final = 0.95
WINDOW_S: Final = 60.0  # of the share: at 5 %, a workload of one request in three seconds is hedged now and then


class FirstBytes(Protocol):
    """What is known of a deployment's first bytes."""

    def quantile_s(self, q: float, stream: bool = True) -> float: ...  # 0.0: not known


class HedgePolicy:
    """One workload's. The retry budget is asked beside this: a hedge is a second send like any other."""

    __slots__ = ("_after_s", "_share")

    def __init__(self, hedge: Hedge, now: float) -> None:
        self._after_s = hedge.after_ms / 1000 if hedge.after_ms is not None else None
        self._share = RetryBudget(RetrySettings(hedge.share_max, WINDOW_S, budget_floor_per_s=0.0), now)

    def request(self, now: float) -> None:
        """Counts a request of the workload, hedged or not."""
        self._share.request(now)

    def after_s(self, first: FirstBytes, stream: bool = True) -> float | None:
        """Seconds without a first byte after which a copy may go out. None: too little is known to say."""
        return self._after_s if self._after_s is not None else first.quantile_s(QUANTILE, stream) or None

    def spend(self, now: float) -> bool:
        """Takes one hedge of the workload's share. False: the share is used up, so the request waits on."""
        return self._share.spend(now)
