"""Laws of the gradient limit, whatever is observed."""

from hypothesis import given
from hypothesis import strategies as st

from router.limits.concurrency import WINDOW_SAMPLES, GradientLimit
from router.limits.settings import LimitSettings

times_s = st.one_of(st.floats(0, 600), st.sampled_from([0.0, 1e-9, 1e6]))
windows = st.lists(st.tuples(times_s, st.integers(0, 3000), st.booleans(), st.floats(0, 5)), max_size=80)
bounds = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 300), st.none() | st.integers(1, 300))


@given(windows, bounds)
def test_the_limit_stays_between_its_bounds(
    seen: list[tuple[float, int, bool, float]], given_bounds: tuple[int, int, int, int | None]
) -> None:
    start, minimum, ceiling, fixed = given_bounds
    highest = min(ceiling, fixed) if fixed is not None else ceiling
    lowest = min(max(minimum, 1), highest)
    gradient = GradientLimit(LimitSettings(concurrency_start=start, concurrency_min=minimum), ceiling, fixed)
    now = 0.0
    for first_byte_s, in_flight, dropped, later in seen:
        now += later
        for _ in range(WINDOW_SAMPLES):
            gradient.observe(first_byte_s, in_flight, now)
        if dropped:
            gradient.dropped(in_flight, now, too_many=in_flight % 2 == 0)
        assert lowest <= gradient.limit <= highest


@given(st.integers(5, 900), st.floats(1, 1e6))
def test_too_many_goes_below_what_was_in_flight(in_flight: int, now: float) -> None:
    gradient = GradientLimit(LimitSettings(), 1000)
    gradient.dropped(in_flight, now, too_many=True)
    assert gradient.limit < max(in_flight, 5)


@given(st.floats(0.001, 100), st.integers(60, 100))
def test_a_steady_time_never_lowers_the_limit_for_good(first_byte_s: float, in_flight: int) -> None:
    gradient, now = GradientLimit(LimitSettings(), 1000), 0.0
    for _ in range(40):
        for _ in range(WINDOW_SAMPLES):
            now += 0.02
            gradient.observe(first_byte_s, min(in_flight, gradient.limit), now)
    assert gradient.limit >= 100
