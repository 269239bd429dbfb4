"""How much may be tried again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """`budget_share`: retries and hedges for each request, over any `budget_window_s`.

    `budget_floor_per_s`: where there is too little traffic for the share to mean anything, so many a second instead.
    """

    budget_share: float = 0.2
    budget_window_s: float = 10.0
    budget_floor_per_s: float = 1.0
