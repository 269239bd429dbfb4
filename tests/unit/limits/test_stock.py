"""The sources that a process has itself: their figures, and days and months that begin once."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.limits.stock import Stock
from router.limits.terms import Money, Places, Rate, Terms, largest, shadowed, terms_of
from router.model.limits import UNLIMITED, Limits

DAY_S = 86_400.0
NOON = datetime(2027, 5, 31, 12, tzinfo=UTC).timestamp()
BUDGET = Money(1000, "day")


def stocked(terms: Terms = BUDGET, limit_id: str = "key/acme/day_usd") -> Stock:
    stock = Stock()
    stock.source(limit_id, terms, 0.0, NOON)
    return stock


def left(stock: Stock, now: float = 0.0, limit_id: str = "key/acme/day_usd", terms: Terms = BUDGET) -> float:
    return stock.source(limit_id, terms, now, NOON).left(now)


def take(stock: Stock, units: float, now: float = 0.0) -> float:
    return stock.source("key/acme/day_usd", BUDGET, now, NOON).take(units, now)


def test_limits_become_terms_by_name() -> None:
    limits = Limits(rpm=600, tpm=60_000, concurrent=5, day_nano_usd=7, month_nano_usd=9, shadow=frozenset({"tpm"}))

    assert terms_of(limits) == {
        "rpm": Rate(10.0, 60.0),
        "tpm": Rate(1000.0, 6000.0),
        "concurrent": Places(5),
        "day_usd": Money(7, "day"),
        "month_usd": Money(9, "month"),
    }
    assert terms_of(UNLIMITED) == {}
    assert terms_of(Limits(rpm=3))["rpm"] == Rate(0.05, 1.0), "one request may always come at one moment"
    assert shadowed(Limits(day_nano_usd=7, shadow=frozenset({"day_nano_usd"}))) == {"day_usd"}
    assert [largest(terms) for terms in (Rate(10.0, 60.0), Places(5), BUDGET)] == [600.0, 5, 1000]


def test_a_source_is_the_same_for_as_long_as_it_is_not_released() -> None:
    stock = stocked(Rate(1.0, 10.0), "key/acme/rpm")
    source = stock.source("key/acme/rpm", Rate(1.0, 10.0), 0.0, NOON)
    assert source.take(10.0, 0.0) == 0.0
    assert stock.source("key/acme/rpm", Rate(1.0, 10.0), 0.0, NOON) is source
    stock.release("key/acme/rpm")
    assert stock.source("key/acme/rpm", Rate(1.0, 10.0), 0.0, NOON).left(0.0) == 10.0


@pytest.mark.parametrize(("before", "after", "remains"), [(10.0, 100.0, 4.0), (10.0, 3.0, 3.0)])
def test_what_is_left_of_a_rate_stays_left_under_other_figures(before: float, after: float, remains: float) -> None:
    stock = stocked(Rate(1.0, before), "key/acme/rpm")
    source = stock.source("key/acme/rpm", Rate(1.0, before), 0.0, NOON)
    source.take(6.0, 0.0)
    stock.adapt("key/acme/rpm", Rate(2.0, after), 0.0)

    assert source.left(0.0) == remains
    assert source.left(1.0) == min(after, remains + 2.0)


def test_places_and_money_that_are_taken_stay_taken_under_other_figures() -> None:
    stock = stocked(Places(5), "key/acme/concurrent")
    places = stock.source("key/acme/concurrent", Places(5), 0.0, NOON)
    for _ in range(4):
        places.take(1.0, 0.0)
    stock.adapt("key/acme/concurrent", Places(2), 0.0)
    assert places.left(0.0) == -2
    places.put(1.0, 0.0)
    places.put(1.0, 0.0)
    assert places.take(1.0, 0.0) > 0.0
    places.put(1.0, 0.0)
    assert places.take(1.0, 0.0) == 0.0

    stock = stocked()
    take(stock, 900.0)
    stock.adapt("key/acme/day_usd", Money(950, "day"), 0.0)
    assert left(stock) == 50.0
    stock.roll(DAY_S, NOON + DAY_S)
    assert left(stock) == 950.0


def test_a_day_begins_at_midnight_and_a_wait_ends_there() -> None:
    stock = stocked()
    assert take(stock, 1000.0) == 0.0
    assert take(stock, 1.0) == pytest.approx(DAY_S / 2)
    stock.roll(DAY_S / 2 - 1, NOON + DAY_S / 2 - 1)
    assert left(stock) == 0.0
    stock.roll(DAY_S / 2 + 1, NOON + DAY_S / 2 + 1)
    assert left(stock) == 1000.0


def test_what_others_counted_holds_in_its_own_period_alone() -> None:
    stock = stocked()
    take(stock, 100.0)
    stock.seed({"key/acme/day_usd": 700, "key/other/day_usd": 500}, 0.0, NOON)
    assert left(stock) == 300.0
    assert left(stock, limit_id="key/other/day_usd") == 500.0, "also of a budget that is first used later"
    stock.seed({"key/acme/day_usd": 650}, 1.0, NOON + 1)
    assert left(stock) == 300.0, "what is counted here too is never less for it"
    stock.roll(DAY_S, NOON + DAY_S)
    assert left(stock) == 1000.0


@given(steps=st.lists(st.floats(-2 * DAY_S, 2 * DAY_S), max_size=30))
def test_however_the_wall_clock_is_set_a_day_is_given_out_once(steps: list[float]) -> None:
    """Between two days that were never seen before there is no more than one day's money."""
    stock, wall, latest, spent_today = stocked(), NOON, int(NOON // DAY_S), 0.0
    for now, step in enumerate(steps):
        wall += step
        stock.roll(float(now), wall)
        if int(wall // DAY_S) > latest:
            latest, spent_today = int(wall // DAY_S), 0.0
        while take(stock, 250.0, float(now)) == 0.0:
            spent_today += 250.0
        assert spent_today == 1000.0
