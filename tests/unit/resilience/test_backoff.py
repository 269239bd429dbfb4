"""Waits that spread."""

import random

from hypothesis import given
from hypothesis import strategies as st

from router.resilience.backoff import full_jitter_s


@given(st.integers(0, 10_000), st.integers(0, 2**32))
def test_waits_are_bounded(failures: int, seed: int) -> None:
    wait_s = full_jitter_s(failures, random.Random(seed), base_s=0.1, max_s=5.0)
    assert 0.0 <= wait_s < min(5.0, 0.1 * 2.0 ** min(failures, 60))


def test_waits_grow_and_use_all_of_their_range() -> None:
    rng = random.Random(1)
    waits = {
        failures: [full_jitter_s(failures, rng, base_s=0.1, max_s=60.0) for _ in range(2000)] for failures in (1, 5)
    }
    for failures, drawn in waits.items():
        widest = 0.1 * 2**failures
        assert max(drawn) > 0.95 * widest
        assert min(drawn) < 0.05 * widest
        assert abs(sum(drawn) / len(drawn) - widest / 2) < 0.05 * widest
