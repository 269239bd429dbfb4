"""What limits mean for their sources."""

from router.limits.terms import Money, Places, Rate, stock_of, terms_of
from router.model.limits import Limits

DOLLAR = 1_000_000_000  # nano-dollars


def test_limits_become_terms_by_the_names_that_everybody_reads() -> None:
    limits = Limits(rpm=600, tpm=90_000, concurrent=5, day_nano_usd=DOLLAR, month_nano_usd=20 * DOLLAR, burst_share=0.2)
    assert terms_of(limits) == {
        "rpm": Rate(10.0, 120.0),
        "tpm": Rate(1500.0, 18_000.0),
        "concurrent": Places(5),
        "day_usd": Money(DOLLAR, "day"),
        "month_usd": Money(20 * DOLLAR, "month"),
    }
    assert terms_of(Limits()) == {}


def test_one_request_may_always_come() -> None:
    assert terms_of(Limits(rpm=3))["rpm"] == Rate(0.05, 1.0)


def test_half_of_a_burst_and_a_hundredth_of_a_budget_may_lie_with_workers() -> None:
    assert stock_of(Rate(10.0, 60.0), 4) == 7
    assert stock_of(Places(3), 4) == 0
    assert stock_of(Money(DOLLAR, "day"), 4) == DOLLAR // 400
