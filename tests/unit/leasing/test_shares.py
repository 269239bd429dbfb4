"""A router's part of the limits while Redis is away."""

import subprocess
import sys

import pytest

from router.leasing.redis_pots import Account
from router.leasing.settings import OnLoss
from router.leasing.shares import Shares
from router.limits.lease import Ask
from router.limits.terms import Money, Places, Rate, Terms

WALL_S = 1_800_000_000.0
NOW = 500.0


def shares(terms: Terms, on_loss: OnLoss = "share", left: float | None = None) -> tuple[Shares, Account]:
    account = Account(terms)
    account.left, account.told_at = left, NOW
    made = Shares(on_loss, {"limit": account}, routers=4)
    return made, account


def got(made: Shares, wanted: float, now: float = NOW, *, held: float = 0.0, wall_s: float = WALL_S) -> float:
    [grant] = made.answer([Ask("limit", wanted, 0.0, held, 1.0)], now, wall_s)
    return grant.units


def test_a_part_of_a_rate_begins_with_a_part_of_what_was_left() -> None:
    made, _ = shares(Rate(per_s=40.0, burst=400.0), left=80.0)
    assert got(made, 1000) == 20
    assert got(made, 1000, NOW + 1.0) == 10


def test_of_a_rate_one_request_at_least_is_everybodys() -> None:
    made, _ = shares(Rate(per_s=0.1, burst=2.0))
    assert got(made, 5) == 1


def test_places_that_are_held_are_of_the_part() -> None:
    made, _ = shares(Places(40))
    assert got(made, 20, held=7.0) == 3
    assert got(shares(Places(2))[0], 2) == 1


def test_a_budget_is_a_part_of_what_is_left_and_begins_anew_with_its_day() -> None:
    made, account = shares(Money(1000, "day"), left=400.0)
    assert got(made, 1000) == 100
    assert account.used == 100
    midnight = (WALL_S // 86400 + 1) * 86400
    assert got(made, 1000, NOW + 90_000, wall_s=midnight + 1) == 250
    assert account.used == 250, "of the new day"


def test_only_what_time_has_not_paid_is_owed() -> None:
    made, account = shares(Rate(per_s=40.0, burst=400.0), left=400.0)
    assert got(made, 30) == 30
    made.owe(NOW + 1.0, long=False)
    assert account.owed == pytest.approx(0.0), "30 were had and are held: they are told as that"
    got(made, 0, NOW + 1.0, held=0.0)
    made.owe(NOW + 1.0, long=False)
    assert account.owed == pytest.approx(30.0), "and now they are spent"


def test_after_long_the_part_says_what_is_left_of_the_whole() -> None:
    made, account = shares(Rate(per_s=40.0, burst=400.0), left=400.0)
    got(made, 60)
    made.owe(NOW, long=True)
    assert account.distrusts
    assert account.believed(NOW) == 160


@pytest.mark.parametrize(("on_loss", "units"), [("open", 300), ("closed", 0)])
def test_open_and_closed_are_what_they_say(on_loss: OnLoss, units: int) -> None:
    made, account = shares(Rate(per_s=40.0, burst=400.0), on_loss, left=0.0)
    assert got(made, 300) == units
    made.owe(NOW, long=True)
    assert account.owed == units


def test_who_serves_does_not_load_the_library() -> None:
    code = "import sys, router.worker, router.supervisor.supervisor; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
