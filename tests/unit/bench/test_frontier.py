"""The search for the highest rate: right on any latency that grows with the rate, and cheap."""

from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.frontier import BOUNDS_MS, STEPS, figure_name, highest_rates
from loadtests.bench.modes import MODES

TOP = 32_000.0


@given(st.lists(st.floats(0.01, 1000), min_size=STEPS, max_size=STEPS).map(sorted))
def test_each_bound_gets_the_highest_rate_that_keeps_it(latencies: list[float]) -> None:
    tried: list[float] = []

    def p99_ms(rate: float) -> float:
        tried.append(rate)
        return latencies[round(rate / TOP * STEPS) - 1]

    found = highest_rates(p99_ms, TOP, BOUNDS_MS)

    for bound in BOUNDS_MS:
        kept = sum(latency < bound for latency in latencies)
        assert found[bound] == TOP * kept / STEPS
    assert len(tried) == len(set(tried)), "a rate was measured twice"


def test_what_is_known_is_not_asked_again() -> None:
    """Five searches apart would be thirty runs."""
    tried: list[float] = []

    def p99_ms(rate: float) -> float:
        tried.append(rate)
        return 0.5 if rate < 20_000 else 3.0 if rate < 22_000 else 1000.0

    highest_rates(p99_ms, TOP, BOUNDS_MS)
    assert len(tried) <= 10


def test_bounds_are_those_that_are_promised() -> None:
    names = [figure_name(bound) for bound in BOUNDS_MS]
    assert names == [f"rate_p99_under_{ms}_ms" for ms in (1, 5, 10, 50, 100)]
    assert "frontier" in [mode.name for mode in MODES]
