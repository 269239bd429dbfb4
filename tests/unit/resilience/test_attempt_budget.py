"""At most three sends, two failed connects made good, one free resend."""

from hypothesis import given
from hypothesis import strategies as st

from router.base.errors import (
    ClientGoneError,
    ConnectError,
    PlacementViolationError,
    Retry,
    StaleConnectionError,
    StreamBrokenError,
    UpstreamError,
    UpstreamTimeoutError,
)
from router.resilience.attempts import FAILED_CONNECTS_MAX, SENDS_MAX, AttemptBudget


def test_the_third_failed_send_is_the_last() -> None:
    budget = AttemptBudget(single_send=False)
    assert [budget.failed(Retry.PAID) for _ in range(3)] == [True, True, False]


def test_the_third_failed_connect_is_the_last() -> None:
    budget = AttemptBudget(single_send=False)
    assert [budget.failed(Retry.SAFE) for _ in range(3)] == [True, True, False]


def test_what_must_not_be_tried_again_is_not() -> None:
    assert not AttemptBudget(single_send=False).failed(Retry.NEVER)


def test_what_may_be_sent_once_may_still_fail_to_connect() -> None:
    budget = AttemptBudget(single_send=True)
    assert budget.failed(Retry.SAFE)
    assert not budget.failed(Retry.PAID)


def test_there_is_one_free_resend_in_a_request() -> None:
    budget = AttemptBudget(single_send=False)
    assert [budget.allows_resend() for _ in range(3)] == [True, False, False]
    assert not AttemptBudget(single_send=True).allows_resend()


def test_errors_know_what_they_cost() -> None:
    assert ConnectError.retry is Retry.SAFE
    assert {e.retry for e in (UpstreamError, UpstreamTimeoutError, StaleConnectionError)} == {Retry.PAID}
    assert {e.retry for e in (StreamBrokenError, PlacementViolationError, ClientGoneError)} == {Retry.NEVER}


@given(st.lists(st.sampled_from([Retry.SAFE, Retry.PAID]), min_size=6), st.booleans())
def test_no_order_of_failures_gives_more(failures: list[Retry], single_send: bool) -> None:
    budget = AttemptBudget(single_send=single_send)
    tried: list[Retry] = []
    for failure in failures:
        tried.append(failure)
        if not budget.failed(failure):
            break
    else:
        raise AssertionError("six failures and no end")
    assert tried.count(Retry.PAID) <= (1 if single_send else SENDS_MAX)
    assert tried.count(Retry.SAFE) <= FAILED_CONNECTS_MAX + 1
