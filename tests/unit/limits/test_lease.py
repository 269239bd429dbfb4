"""A worker's lease and the superior's pots: who asks when, for how much, and what comes back."""

from math import inf

import pytest

from router.limits.bucket import Bucket
from router.limits.lease import ASK, IDLE_S, TICK_S, Ask, Grant, Lease, slice_of
from router.limits.pots import UNKNOWN_WAIT_S, Pots
from router.limits.purse import Purse
from router.limits.slots import Slots
from router.limits.source import Source


def exchange(pots: Pots, holder: str, lease: Lease, now: float) -> Grant | None:
    """One round trip, at once."""
    ask = lease.ask(now)
    if ask is None:
        return None
    [grant] = pots.answer(holder, [ask], now)
    lease.grant(grant, now)
    return grant


def take(pots: Pots, holder: str, lease: Lease, units: float, now: float) -> float:
    """As a request does that waits for the answer."""
    wait_s = lease.take(units, now)
    if wait_s == ASK:
        exchange(pots, holder, lease, now)
        wait_s = lease.take(units, now)
    return wait_s


def rate(burst: float = 80.0, per_s: float = 10.0) -> tuple[Pots, Bucket]:
    pots, bucket = Pots(), Bucket(per_s, burst)
    pots.set("k", bucket)
    return pots, bucket


def of_rate(burst: float = 80.0, per_s: float = 10.0, workers: int = 4) -> Lease:
    return Lease("k", slice_of(burst, workers), rate_per_s=per_s, full=burst, largest=max(burst, 60 * per_s))


def test_half_of_a_burst_at_most_lies_with_workers() -> None:
    assert [slice_of(burst, 4) for burst in (1, 7.9, 8, 60, 600)] == [0, 0, 1, 7, 75]


def test_a_slice_comes_with_the_first_request_and_then_nobody_is_asked() -> None:
    pots, bucket = rate()
    lease = of_rate()
    assert lease.take(1, 0.0) == ASK
    assert lease.ask(0.0) == Ask("k", 10.0, 0.0, 0.0, 1.0)
    assert lease.ask(0.0) is None, "one at a time"
    lease.grant(pots.answer("a", [Ask("k", 10.0, 0.0, 0.0, 1.0)], 0.0)[0], 0.0)
    assert [lease.take(1, 0.0) for _ in range(10)] == [0.0] * 10
    assert lease.take(1, 0.0) == ASK
    assert bucket.left(0.0) == 70


def test_a_stock_that_runs_low_is_filled_up_before_it_is_empty() -> None:
    pots, _ = rate()
    lease = of_rate()
    take(pots, "a", lease, 1, 0.0)
    assert exchange(pots, "a", lease, TICK_S) == Grant("k", 0.0, 0.0, 70.0, pytest.approx(0.1))
    for _ in range(5):
        lease.take(1, 0.15)
    ask = lease.ask(2 * TICK_S)
    assert ask is not None
    assert (ask.wanted, ask.held, ask.least) == (6.0, 4.0, 0.0)


def test_one_worker_alone_can_use_the_whole_burst() -> None:
    pots, _ = rate(burst=60)
    lease = of_rate(burst=60)
    assert sum(take(pots, "a", lease, 1, 0.0) == 0.0 for _ in range(100)) == 60


def test_a_small_burst_is_handed_out_one_by_one() -> None:
    pots, bucket = rate(burst=6)
    lease = of_rate(burst=6)
    assert take(pots, "a", lease, 1, 0.0) == 0.0
    assert lease.take(1, 0.0) == ASK
    assert bucket.left(0.0) == 5


def test_a_refusal_is_remembered_until_there_may_be_more() -> None:
    pots, _ = rate(burst=8, per_s=10.0)
    lease = of_rate(burst=8, per_s=10.0)
    assert take(pots, "a", lease, 8, 0.0) == 0.0
    assert take(pots, "a", lease, 1, 0.0) == pytest.approx(0.1)
    assert lease.ask(0.05) is None
    assert lease.take(1, 0.05) == pytest.approx(0.05)
    assert lease.take(1, 0.1) == ASK


def test_a_large_refusal_keeps_no_small_request_out() -> None:
    """It is told the truth about its own wait, and a smaller one may ask."""
    pots, _ = rate(burst=80, per_s=10.0)
    lease = of_rate(burst=80, per_s=10.0)
    assert take(pots, "a", lease, 40, 0.0) == 0.0
    assert take(pots, "b", of_rate(), 1, 0.0) == 0.0  # which takes a slice of 10
    assert take(pots, "a", lease, 35, 0.0) == pytest.approx(0.5)
    assert lease.take(40, 0.0) == pytest.approx(1.0)
    assert take(pots, "a", lease, 3, 0.0) == 0.0


def test_what_can_never_pass_is_said_at_once() -> None:
    assert of_rate().take(601, 0.0) == inf


def test_nobody_gets_a_part_that_he_cannot_use() -> None:
    pots, bucket = rate(burst=80)
    bucket.take(70, 0.0)
    [grant] = pots.answer("a", [Ask("k", 20.0, 0.0, 0.0, 15.0)], 0.0)
    assert (grant.units, grant.wait_s, grant.left) == (0.0, pytest.approx(0.5), 10.0)
    [grant] = pots.answer("a", [Ask("k", 20.0, 0.0, 0.0, 7.5)], 0.0)
    assert (grant.units, grant.wait_s) == (10, pytest.approx(0.1))


def test_idle_units_go_back_and_a_silent_lease_asks_nothing() -> None:
    pots, bucket = rate()
    lease = of_rate()
    assert lease.idle
    take(pots, "a", lease, 1, 0.0)
    assert not lease.idle
    exchange(pots, "a", lease, TICK_S)
    assert pots.outstanding("k") == 9
    exchange(pots, "a", lease, IDLE_S)
    assert pots.outstanding("k") == 0
    assert lease.idle
    assert lease.ask(IDLE_S + TICK_S) is None
    assert bucket.left(IDLE_S) == 80


def test_where_units_are_short_idle_ones_go_back_with_the_next_tick() -> None:
    pots, bucket = rate(burst=80, per_s=1.0)
    lease = of_rate(burst=80, per_s=1.0)
    bucket.take(75, 0.0)
    take(pots, "a", lease, 1, 0.0)
    assert pots.outstanding("k") == 5, "of the 10 that it wanted"
    exchange(pots, "a", lease, TICK_S)
    assert pots.outstanding("k") == 0


def test_what_is_called_back_comes_at_once_but_for_what_is_in_use() -> None:
    pots, slots = Pots(), Slots(16)
    pots.set("k", slots)
    lease = Lease("k", slice_of(16, 2), full=16, largest=16, borrows=True)
    take(pots, "a", lease, 1, 0.0)
    assert slots.left(0.0) == 12
    assert pots.others("k", "b") == ["a"]
    assert pots.others("k", "a") == pots.others("other", "b") == []
    lease.recall()
    exchange(pots, "a", lease, 0.0)
    assert slots.left(0.0) == 15
    assert take(pots, "a", lease, 1, 0.0) == 0.0
    assert slots.left(0.0) == 14, "no stock is kept while others are short"


def test_a_stock_that_cannot_be_filled_up_refuses_nobody() -> None:
    """Only for a request does the superior call back what others hold, so only then is a refusal the truth."""
    pots, bucket = rate(burst=80)
    lease = of_rate()
    take(pots, "a", lease, 1, 0.0)
    for _ in range(8):
        lease.take(1, 0.0)
    bucket.take(70, 0.0)
    ask = lease.ask(0.0)
    assert ask is not None
    assert ask.least == 0.0
    lease.grant(Grant("k", 0.0, 0.1), 0.0)
    assert [lease.take(1, 0.0), lease.take(1, 0.0)] == [0.0, ASK]


def test_what_was_used_beyond_is_told_and_held_against_all() -> None:
    pots, bucket = rate()
    lease = of_rate()
    take(pots, "a", lease, 1, 0.0)
    lease.put(-100, 0.0)
    assert lease.take(1, 0.0) == ASK
    exchange(pots, "a", lease, 0.0)
    assert bucket.left(0.0) == -21
    assert lease.take(1, 0.0) == pytest.approx(2.2)


def test_a_refund_of_what_was_told_as_spent_goes_through_the_superior() -> None:
    """Else more than the burst could be spent at one moment: this one had been filled up meanwhile."""
    pots, bucket = rate()
    lease = of_rate()
    take(pots, "a", lease, 40, 0.0)
    exchange(pots, "a", lease, 0.1)
    lease.put(40, 60.0)
    assert [lease.take(10, 60.0), lease.take(1, 60.0)] == [0.0, ASK], "the slice that it had asked for, and no more"
    exchange(pots, "a", lease, 60.0)
    assert bucket.left(60.0) + pots.outstanding("k") <= 80


def test_a_dead_worker_leaves_its_places_and_its_money_but_no_requests() -> None:
    pots = Pots()
    sources: list[Source] = [Slots(8), Purse(8), Bucket(1.0, 8)]
    for limit, source in zip("abc", sources, strict=True):
        pots.set(limit, source)
    for limit in "abc":
        pots.answer("w", [Ask(limit, 5.0, 0.0, 0.0)], 0.0)
    assert [source.left(0.0) for source in sources] == [3, 3, 3]
    pots.forget("w", 0.0)
    assert [source.left(0.0) for source in sources] == [8, 8, 3]
    assert [pots.outstanding(limit) for limit in "abc"] == [0, 0, 0]


def test_places_are_told_absolutely_so_that_a_lost_answer_heals() -> None:
    pots, slots = Pots(), Slots(40)
    pots.set("k", slots)
    lease = Lease("k", slice_of(40, 4), full=40, largest=40, borrows=True)
    assert lease.take(1, 0.0) == ASK
    ask = lease.ask(0.0)
    assert ask is not None
    pots.answer("a", [ask], 0.0)  # the answer never comes
    lease.unanswered()
    assert slots.left(0.0) == 35
    take(pots, "a", lease, 1, 0.0)
    assert slots.left(0.0) == 35
    lease.put(1, 0.0)
    for now in (1.0, 1.0 + TICK_S):
        exchange(pots, "a", lease, now)
    assert slots.left(1.1) == 40


def test_a_superior_that_forgot_everything_is_told_what_is_held() -> None:
    pots, slots = Pots(), Slots(8)
    pots.set("k", slots)
    lease = Lease("k", 4, full=8, largest=8, borrows=True)
    take(pots, "a", lease, 1, 0.0)
    again, fresh = Pots(), Slots(8)
    again.set("k", fresh)
    for _ in range(4):
        take(again, "a", lease, 1, 0.0)
    assert fresh.left(0.0) == 8 - again.outstanding("k") <= 3


def test_places_that_are_above_the_slice_go_back_with_a_tick() -> None:
    pots, slots = Pots(), Slots(40)
    pots.set("k", slots)
    lease = Lease("k", 5, full=40, largest=40, borrows=True)
    for _ in range(20):
        assert take(pots, "a", lease, 1, 0.0) == 0.0
    for _ in range(15):
        lease.put(1, 0.05)
    exchange(pots, "a", lease, 0.05 + TICK_S)
    assert slots.left(0.2) == 40 - 5 - 5


def test_an_unknown_limit_is_asked_for_again() -> None:
    [grant] = Pots().answer("a", [Ask("new", 1.0, 0.0, 0.0, 1.0)], 0.0)
    assert grant == Grant("new", 0.0, UNKNOWN_WAIT_S)


def test_a_limit_that_is_dropped_is_forgotten() -> None:
    pots, _ = rate()
    take(pots, "a", of_rate(), 1, 0.0)
    pots.drop("k")
    assert pots.outstanding("k") == 0.0


def test_what_is_left_is_told_of_the_whole_and_not_of_the_slice() -> None:
    pots, _ = rate()
    lease = of_rate()
    assert lease.left(0.0) == 80
    take(pots, "a", lease, 5, 0.0)
    assert lease.left(0.0) == 75
    assert lease.reset_s(0.0) == pytest.approx(0.5)
    assert lease.left(0.25) == pytest.approx(77.5)
    assert lease.left(100.0) == 80


def test_when_money_comes_back_is_told_by_the_superior() -> None:
    pots, purse = Pots(), Purse(1000)
    purse.begin(1, 990, until=500.0)
    pots.set("k", purse)
    lease = Lease("k", slice_of(1000, 4), full=1000, largest=1000)
    assert take(pots, "a", lease, 20, 100.0) == 400.0
    assert lease.reset_s(100.0) == 400.0
    assert lease.left(100.0) == 10


def test_a_router_is_a_holder_to_redis_and_a_superior_to_its_workers() -> None:
    """Two floors of leases: what lies with workers is what the router holds, and ASK goes up."""
    above, bucket = rate(burst=80)
    middle = Lease("k", slice_of(80, 2), rate_per_s=10.0, full=80, largest=600)
    pots = Pots()
    pots.set("k", middle)
    worker = Lease("k", slice_of(80, 4), rate_per_s=10.0, full=80, largest=600)

    assert worker.take(1, 0.0) == ASK
    ask = worker.ask(0.0)
    assert ask is not None
    [grant] = pots.answer("w", [ask], 0.0)
    assert grant.wait_s == ASK
    exchange(above, "r", middle, 0.0)
    [grant] = pots.answer("w", [ask], 0.0)
    worker.grant(grant, 0.0)
    assert worker.take(1, 0.0) == 0.0
    assert above.outstanding("k") == 20
    exchange(pots, "w", worker, 0.1)
    exchange(above, "r", middle, 0.1)
    assert above.outstanding("k") == 19, "what the worker has spent is known at the top"
    assert bucket.left(0.1) == 60.0
