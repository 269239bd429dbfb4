"""The bucket against the other form of the algorithm, in exact arithmetic, at every age of the clock."""

from fractions import Fraction
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from router.limits.bucket import Bucket
from router.limits.source import SLACK, WAIT_MIN_S

TEN_YEARS_S = 10 * 365.25 * 86_400
STARTS_S = st.sampled_from([0.0, 1e5, TEN_YEARS_S])
STEPS_S = st.one_of(
    st.just(0.0), st.floats(1e-6, 0.05), st.floats(0.05, 20.0), st.sampled_from([3_600.0, 86_400.0, TEN_YEARS_S])
)
TOLERANCE = 1e-3
"""Units. Ten years in seconds leave 2**-24 s to a double: at 5,000 units a second, 0.0003 units a moment."""


class ArrivalTime:
    """Virtual scheduling (ITU-T I.371): a theoretical arrival time, without rounding."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self.rate, self.burst = Fraction(rate_per_s), Fraction(burst)
        self.due = Fraction(0)

    def spare(self, units: float, now: float) -> Fraction:
        """Units by which it may be taken, or less than 0. What is larger than the burst needs a full bucket."""
        ahead = max(Fraction(0), self.due - Fraction(now)) * self.rate
        return self.burst - ahead - min(Fraction(units), self.burst)

    def take(self, units: float, now: float) -> None:
        self.due = max(self.due, Fraction(now)) + Fraction(units) / self.rate


RATES = st.sampled_from([0.1, 1.0, 10.0, 100.0, 10_000 / 3])
TAKES = st.lists(st.tuples(STEPS_S, st.one_of(st.just(1), st.integers(1, 60))), max_size=60)


@given(start=STARTS_S, rate=RATES, burst=st.integers(1, 40), takes=TAKES)
def test_both_forms_admit_the_same(start: float, rate: float, burst: int, takes: list[tuple[float, int]]) -> None:
    bucket, model, now = Bucket(rate, burst, largest=inf), ArrivalTime(rate, burst), start
    for step_s, units in takes:
        now += step_s
        spare = model.spare(units, now)
        taken = bucket.take(units, now) == 0.0
        assert taken == (spare >= 0) or abs(spare) < TOLERANCE
        if taken:
            model.take(units, now)


@given(start=STARTS_S, rate=RATES, burst=st.integers(1, 40), takes=TAKES)
def test_no_window_holds_more_than_burst_and_rate(
    start: float, rate: float, burst: int, takes: list[tuple[float, int]]
) -> None:
    """Also after debts: one that is larger than the burst comes on top, once."""
    bucket, now = Bucket(rate, burst, largest=inf), start
    taken: list[tuple[float, int]] = []
    for step_s, units in takes:
        now += step_s
        if not bucket.take(units, now):
            taken.append((now, units))
    for first, (begin, _) in enumerate(taken):
        units = 0
        for end, more in taken[first:]:
            units += more
            above = max(0, max(each for _, each in taken) - burst)
            assert units <= burst + rate * (end - begin) + above + TOLERANCE


@given(start=STARTS_S, rate=RATES, burst=st.integers(1, 40), takes=TAKES, units=st.integers(1, 80))
def test_the_wait_that_is_told_is_true(
    start: float, rate: float, burst: int, takes: list[tuple[float, int]], units: int
) -> None:
    bucket, now = Bucket(rate, burst), start
    for step_s, each in takes:
        now += step_s
        bucket.take(each, now)
    wait_s = bucket.take(units, now)
    if wait_s == inf:
        assert units > bucket.largest
    elif wait_s:
        early_s = (SLACK + TOLERANCE) / rate + WAIT_MIN_S
        if wait_s > early_s:
            assert bucket.take(units, now + wait_s - early_s) > 0.0
        assert bucket.take(units, now + wait_s + early_s) == 0.0


@given(start=STARTS_S, rate=RATES, burst=st.integers(1, 40), takes=TAKES)
def test_what_is_put_back_at_once_changes_nothing(
    start: float, rate: float, burst: int, takes: list[tuple[float, int]]
) -> None:
    bucket, now = Bucket(rate, burst), start
    for step_s, units in takes:
        now += step_s
        before = bucket.left(now)
        if not bucket.take(units, now):
            bucket.put(units, now)
        assert abs(bucket.left(now) - before) < 1e-9
        assert bucket.left(now) <= burst


@given(start=STARTS_S, rate=RATES, burst=st.integers(1, 40), used=st.integers(1, 200))
def test_a_debt_is_paid_by_time(start: float, rate: float, burst: int, used: int) -> None:
    bucket = Bucket(rate, burst)
    bucket.put(-used, start)
    full_s = bucket.reset_s(start)

    assert abs(full_s - used / rate) < 1e-6 * used
    assert bucket.left(start + full_s / 2) < burst
    assert abs(bucket.left(start + full_s + 2 * WAIT_MIN_S) - burst) < TOLERANCE
