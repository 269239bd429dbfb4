"""Waits between tries of the same thing. To another deployment nothing waits: it has done nothing wrong."""

import random


def full_jitter_s(failures: int, rng: random.Random, *, base_s: float = 0.025, max_s: float = 10.0) -> float:
    """Seconds to wait after so many failures in a row: evenly from [0, min(max_s, base_s × 2^failures)).

    Full jitter, since waits that only begin together end together as well (AWS Architecture Blog, "Exponential Backoff
    And Jitter"); Envoy's base.
    """
    return rng.random() * min(max_s, base_s * 2.0 ** min(failures, 60))
