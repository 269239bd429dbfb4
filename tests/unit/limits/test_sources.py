"""Rates, places and money, each alone."""

import calendar
from datetime import UTC, datetime
from math import inf

import pytest

from router.limits.bucket import Bucket
from router.limits.purse import Purse, day, month
from router.limits.slots import AGAIN_S, Slots


class TestBucket:
    def test_a_burst_passes_at_once_and_then_the_rate(self) -> None:
        bucket = Bucket(rate_per_s=10.0, burst=3)
        assert [bucket.take(1, 5.0) for _ in range(3)] == [0.0, 0.0, 0.0]
        assert bucket.take(1, 5.0) == pytest.approx(0.1)
        assert bucket.take(1, 5.05) == pytest.approx(0.05)
        assert bucket.take(1, 5.1) == 0.0

    def test_what_is_larger_than_the_burst_waits_for_a_full_bucket_and_leaves_a_debt(self) -> None:
        bucket = Bucket(rate_per_s=10.0, burst=100)
        bucket.take(50, 0.0)
        assert bucket.take(250, 0.0) == pytest.approx(5.0)
        assert bucket.take(250, 5.0) == 0.0
        assert bucket.left(5.0) == -150
        assert bucket.take(1, 5.0) == pytest.approx(15.1)

    def test_more_than_a_minutes_units_never_pass(self) -> None:
        bucket = Bucket(rate_per_s=10.0, burst=100)
        assert bucket.take(601, 0.0) == inf
        assert bucket.take(600, 0.0) == 0.0
        assert Bucket(rate_per_s=10.0, burst=100, largest=5000).take(601, 0.0) == 0.0

    def test_an_older_moment_fills_nothing(self) -> None:
        """Two phases of a request may have read the clock in the other order."""
        bucket = Bucket(rate_per_s=10.0, burst=10)
        bucket.take(10, 8.0)
        assert bucket.take(1, 7.0) > 0.0
        assert bucket.left(7.0) == 0.0
        assert bucket.left(8.5) == pytest.approx(5.0)

    def test_hours_fill_it_once(self) -> None:
        bucket = Bucket(rate_per_s=10.0, burst=10)
        bucket.take(10, 1.0)
        assert bucket.left(1.0 + 5 * 3600) == 10

    def test_what_lies_with_others_is_not_filled_up_again(self) -> None:
        bucket = Bucket(rate_per_s=10.0, burst=10)
        assert bucket.draw(4, 0.0) == 4
        bucket.lend(4, 0.0)
        assert bucket.left(100.0) == 6
        bucket.lend(1, 100.0)  # three of them have been spent
        assert bucket.left(100.0) == 6
        assert bucket.left(100.2) == pytest.approx(8.0)
        assert bucket.left(200.0) == 9

    def test_what_lies_with_others_stops_no_large_request(self) -> None:
        """Their stock may never come back while they are busy: half the burst is enough to wait for."""
        bucket = Bucket(rate_per_s=10.0, burst=10)
        bucket.draw(5, 0.0)
        bucket.lend(5, 0.0)
        assert bucket.take(9, 0.0) == 0.0
        assert bucket.left(0.0) == -4
        assert bucket.take(5, 0.4) == pytest.approx(0.5)

    def test_what_lies_with_others_lets_no_small_one_pass_early(self) -> None:
        bucket = Bucket(rate_per_s=10.0, burst=10)
        bucket.draw(9, 0.0)
        bucket.lend(9, 0.0)
        assert bucket.take(2, 0.0) > 0.0

    def test_draw_takes_what_there_is(self) -> None:
        bucket = Bucket(rate_per_s=1.0, burst=5)
        assert bucket.draw(3, 0.0) == 3
        assert bucket.draw(3, 0.5) == 2.5
        assert bucket.draw(3, 0.5) == 0.0
        bucket.put(-2, 0.5)
        assert bucket.draw(3, 0.5) == 0.0


class TestSlots:
    def test_places_are_taken_and_come_back(self) -> None:
        slots = Slots(2)
        assert (slots.take(1, 0.0), slots.take(1, 0.0)) == (0.0, 0.0)
        assert slots.take(1, 1e6) == AGAIN_S
        slots.put(1, 1e6)
        assert slots.left(1e6) == 1
        assert slots.take(1, 1e6) == 0.0

    def test_a_lower_count_waits_until_enough_have_come_back(self) -> None:
        slots = Slots(3)
        for _ in range(3):
            slots.take(1, 0.0)
        slots.count = 2
        slots.put(1, 0.0)
        assert slots.take(1, 0.0) == AGAIN_S
        assert slots.draw(2, 0.0) == 0.0
        slots.put(1, 0.0)
        assert slots.draw(2, 0.0) == 1.0

    def test_time_does_not_free_a_place(self) -> None:
        slots = Slots(1)
        assert slots.reset_s(0.0) == 0.0
        slots.take(1, 0.0)
        assert slots.reset_s(1e9) == AGAIN_S
        assert slots.left(1e9) == 0

    def test_no_more_comes_back_than_was_taken(self) -> None:
        slots = Slots(2)
        slots.put(1, 0.0)
        assert slots.left(0.0) == 2


class TestPurse:
    def test_money_is_gone_until_the_period_ends(self) -> None:
        purse = Purse(1000)
        purse.begin(7, 400, until=100.0)
        assert purse.take(600, 1.0) == 0.0
        assert purse.take(1, 40.0) == 60.0
        assert purse.take(1001, 40.0) == inf
        purse.begin(8, 0, until=200.0)
        assert purse.take(1000, 100.0) == 0.0

    def test_a_clock_that_steps_back_opens_nothing_twice(self) -> None:
        purse = Purse(1000)
        purse.begin(7, 0, until=100.0)
        purse.take(900, 1.0)
        purse.begin(8, 0, until=200.0)  # the clock stepped over midnight,
        purse.take(800, 2.0)
        purse.begin(7, 0, until=100.0)  # back,
        assert purse.left(3.0) == 200
        purse.begin(8, 0, until=200.0)  # and forth
        assert purse.left(4.0) == 200

    def test_what_is_known_from_elsewhere_counts_if_it_is_more(self) -> None:
        purse = Purse(1000)
        purse.begin(7, 0, until=100.0)
        purse.take(300, 1.0)
        purse.begin(7, 700, until=100.0)
        assert purse.left(1.0) == 300
        purse.begin(7, 100, until=100.0)
        assert purse.left(1.0) == 300

    def test_more_than_the_limit_may_turn_out_to_be_spent(self) -> None:
        purse = Purse(1000)
        purse.take(900, 0.0)
        purse.put(-300, 0.0)
        assert purse.left(0.0) == -200
        assert purse.draw(10, 0.0) == 0.0

    def test_what_comes_back_from_the_period_before_is_no_gift(self) -> None:
        purse = Purse(1000)
        purse.begin(7, 0, until=100.0)
        purse.take(500, 0.0)
        purse.begin(8, 0, until=200.0)
        purse.put(500, 100.0)
        assert purse.left(100.0) == 1000


def wall(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class TestPeriods:
    def test_a_day_ends_at_midnight(self) -> None:
        assert day(wall("2026-11-23T23:59:59")).left_s == 1.0
        assert day(wall("2026-11-24T00:00:00")).left_s == 86_400.0
        assert day(wall("2026-11-24T00:00:00")).number == day(wall("2026-11-23T23:59:59")).number + 1

    @pytest.mark.parametrize("year", [2026, 2028, 2100])
    @pytest.mark.parametrize("number", range(1, 13))
    def test_a_month_ends_with_its_last_day(self, year: int, number: int) -> None:
        days = calendar.monthrange(year, number)[1]
        first, last = wall(f"{year}-{number:02}-01T00:00:00"), wall(f"{year}-{number:02}-{days}T23:59:00")
        assert month(first).left_s == days * 86_400.0
        assert month(last).left_s == 60.0
        assert month(first).number == month(last).number == month(last + 60.0).number - 1
