"""Four workers, their leases, and the superior, under every order of takes, messages, crashes and steps of time.

A message waits in its queue until a rule delivers it, a worker is killed with whatever was on the way, and a model
counts what all of them took together.
"""

from collections import deque
from math import inf
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.limits.bucket import Bucket
from router.limits.lease import ASK, Ask, Grant, Lease, slice_of
from router.limits.pots import Pots
from router.limits.purse import Purse
from router.limits.slots import Slots
from router.limits.source import Source

WORKERS: Final = 4
TEN_YEARS_S: Final = 10 * 365.25 * 86_400
TOLERANCE: Final = 1e-3  # units: what ten years leave of a double's precision, times the rate
WORKER: Final = st.integers(0, WORKERS - 1)
UNITS: Final = st.one_of(st.just(1), st.integers(1, 50))
LIMIT: Final = "key/acme/limit"


class Worker:
    """One holder, and what is on its way from and to it."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.up: deque[Ask] = deque()
        self.down: deque[Grant] = deque()
        self.surrendered = 0.0  # of what waits to go back: was never told as spent
        self.late = 0.0  # on its way up: was told as spent, and comes back unused
        self.permits: list[int] = []  # units of each request that runs

    @property
    def unspent(self) -> float:
        """What it has, or should have had, not counting what its requests took."""
        on_the_way = sum(grant.units for grant in self.down) + sum(ask.returned for ask in self.up) - self.late
        return self.lease._held + self.surrendered + on_the_way

    def waits(self) -> float:
        """What was told as spent, and waits to be sent up."""
        return self.lease._back - self.surrendered


class Sharing(RuleBasedStateMachine):
    """What all kinds of limits have in common."""

    full: float
    rate_per_s = 0.0
    largest = inf
    borrows = False

    def open(self, source: Source, start: float) -> None:
        self.source, self.now = source, start
        self.pots = Pots()
        self.pots.set(LIMIT, source)
        self.workers = [self.hired() for _ in range(WORKERS)]

    def hired(self) -> Worker:
        units = slice_of(self.full, WORKERS)
        return Worker(
            Lease(
                LIMIT,
                units,
                rate_per_s=self.rate_per_s,
                full=self.full,
                largest=self.largest,
                borrows=self.borrows,
            )
        )

    def took(self, units: int) -> None:
        """A request has got what it needs."""

    def gave_back(self, units: float) -> None:
        """So much more can be taken, since it was not used; less than 0: so much more was used."""

    def died(self, worker: Worker) -> None:
        """A worker is about to be forgotten."""

    @rule(worker=WORKER, units=UNITS, patient=st.booleans())
    def take(self, worker: int, units: int, patient: bool) -> None:
        """Somebody patient waits for the answer; the other has gone when it comes."""
        self.try_take(worker, 1 if self.borrows else 1 + units % max(1, int(self.full) // 2), patient)

    @rule(worker=WORKER)
    def rush(self, worker: int) -> None:
        """As many as there are, one by one."""
        for _ in range(150):
            if not self.try_take(worker, 1, patient=True):
                break

    @rule()
    def rush_everywhere(self) -> None:
        for worker in range(WORKERS):
            self.rush(worker)

    def try_take(self, worker: int, units: int, patient: bool) -> bool:
        here = self.workers[worker]
        wait_s = here.lease.take(units, self.now)
        for _ in range(2):
            if wait_s == ASK:
                self.tick(worker)
                if patient:
                    self.exchange(worker)
                    wait_s = here.lease.take(units, self.now)
        if wait_s:
            assert wait_s == ASK or wait_s > 0.0
            return False
        here.permits.append(units)
        self.took(units)
        return True

    @rule(worker=WORKER, used=st.sampled_from([0.0, 0.5, 1.0, 1.5]))
    def settle(self, worker: int, used: float) -> None:
        here = self.workers[worker]
        if here.permits:
            units = here.permits.pop()
            unused = units if self.borrows else units - round(units * used)
            late = here.lease._back
            here.lease.put(unused, self.now)
            self.gave_back(unused - (here.lease._back - late))

    @rule(worker=WORKER)
    def settle_all_unused(self, worker: int) -> None:
        while self.workers[worker].permits:
            self.settle(worker, 0.0)

    @rule(worker=WORKER)
    def surrender(self, worker: int) -> None:
        """As for a reload, after which what is in stock may be more than there is."""
        here = self.workers[worker]
        here.surrendered += max(0.0, here.lease._held)
        here.lease.surrender()

    @rule(worker=WORKER)
    def recall(self, worker: int) -> None:
        """As when another is short."""
        self.workers[worker].lease.recall()

    @rule(worker=WORKER)
    def tick(self, worker: int) -> None:
        here = self.workers[worker]
        late = here.waits()
        ask = here.lease.ask(self.now)
        if ask is not None:
            here.up.append(ask)
            here.late += late
            here.surrendered = 0.0

    @rule(worker=WORKER)
    def asks_arrive(self, worker: int) -> None:
        here = self.workers[worker]
        here.down.extend(self.pots.answer(str(worker), here.up, self.now))
        here.up.clear()
        self.gave_back(here.late)
        here.late = 0.0

    @rule(worker=WORKER)
    def grants_arrive(self, worker: int) -> None:
        here = self.workers[worker]
        while here.down:
            here.lease.grant(here.down.popleft(), self.now)

    @rule(worker=WORKER)
    def exchange(self, worker: int) -> None:
        self.tick(worker)
        self.asks_arrive(worker)
        self.grants_arrive(worker)

    @rule(worker=WORKER)
    def kill(self, worker: int) -> None:
        self.died(self.workers[worker])
        self.pots.forget(str(worker), self.now)
        self.workers[worker] = self.hired()

    @rule(seconds=st.one_of(st.just(0.0), st.sampled_from([0.01, 0.15, 1.1, 3 * 3600.0]), st.floats(1e-4, 30.0)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def with_what_is_left_nobody_holds_more_than_the_whole(self) -> None:
        if hasattr(self, "workers") and not self.borrows:
            known = self.pots.outstanding(LIMIT)
            assert known >= sum(max(0.0, worker.lease._held) for worker in self.workers)

    def teardown(self) -> None:
        """Every unit that was granted is spent, held or returned: once all is quiet, none is missing."""
        if not hasattr(self, "workers"):
            return
        if self.borrows:
            for worker in range(WORKERS):
                self.settle_all_unused(worker)
        for _ in range(4):
            self.pass_time(2.0)
            for worker in range(WORKERS):
                self.exchange(worker)
        assert all(worker.lease.idle for worker in self.workers)
        assert self.pots.outstanding(LIMIT) == 0.0
        self.at_rest()

    def at_rest(self) -> None:
        """What must be true of the source when nobody holds anything."""


class Rates(Sharing):
    """In any window of T seconds at most `burst + rate * T`, and one request that is larger than half the burst."""

    @initialize(
        start=st.sampled_from([0.0, 1e5, TEN_YEARS_S]),
        rate=st.sampled_from([0.1, 1.0, 10.0, 1000.0]),
        burst=st.integers(1, 80),
        large=st.booleans(),
    )
    def begin(self, start: float, rate: float, burst: int, large: bool) -> None:
        self.large = large
        self.rate_per_s, self.full, self.since = rate, burst, start
        self.net = 0.0  # taken, less what came back unused
        self.lowest = 0.0  # that ever was, of `net` less what time had brought: where the worst window begins
        self.above = 0  # the largest request that a full bucket may have let pass
        self.open(Bucket(rate, burst, largest=inf), start)

    @precondition(lambda self: self.large)
    @rule(worker=WORKER, units=st.integers(1, 200))
    def take_large(self, worker: int, units: int) -> None:
        self.try_take(worker, units, patient=True)

    @rule(share=st.sampled_from([0.01, 0.1, 0.5, 1.0, 2.0]))
    def refill(self, share: float) -> None:
        self.pass_time(share * self.full / self.rate_per_s)

    def credit(self) -> float:
        return self.net - self.rate_per_s * (self.now - self.since)

    def took(self, units: int) -> None:
        self.lowest = min(self.lowest, self.credit())
        if units > self.full / 2:
            self.above = max(self.above, units)
        self.net += units

    def gave_back(self, units: float) -> None:
        if units > 0:  # a debt is beyond any limit: it comes off what is granted later
            self.net -= units

    @invariant()
    def no_window_has_more_than_burst_and_rate(self) -> None:
        if hasattr(self, "workers"):
            assert self.credit() - self.lowest <= self.full + self.above + TOLERANCE

    def at_rest(self) -> None:
        self.pass_time(self.source.reset_s(self.now) + 1.0)
        assert abs(self.source.left(self.now) - self.full) < TOLERANCE


class Places(Sharing):
    """Never more at one time than there are, and the dead leave theirs at once."""

    borrows = True

    @initialize(start=st.sampled_from([0.0, TEN_YEARS_S]), count=st.integers(1, 40))
    def begin(self, start: float, count: int) -> None:
        self.full = self.largest = count
        self.open(Slots(count), start)

    @invariant()
    def nobody_has_a_place_too_many(self) -> None:
        if hasattr(self, "workers"):
            taken = sum(len(worker.permits) for worker in self.workers)
            assert taken <= self.full
            assert self.source.left(self.now) <= self.full - taken

    def at_rest(self) -> None:
        assert self.source.left(self.now) == self.full


class Money(Sharing):
    """Never more than there is, but for what nobody could know: more used than estimated, spent by the dead unsaid."""

    @initialize(start=st.sampled_from([0.0, TEN_YEARS_S]), limit=st.integers(1, 400))
    def begin(self, start: float, limit: int) -> None:
        self.full = self.largest = limit
        self.spent = self.overdrawn = self.unsaid = 0.0
        self.purse = Purse(limit)
        self.open(self.purse, start)

    def took(self, units: int) -> None:
        self.spent += units

    def gave_back(self, units: float) -> None:
        self.spent -= units
        self.overdrawn -= min(0.0, units)

    def died(self, worker: Worker) -> None:
        """What the superior thought that it had comes back, also what it had spent meanwhile."""
        told = self.pots._pots[LIMIT].holders.get(str(self.workers.index(worker)), 0.0)
        assert told >= worker.unspent
        self.unsaid += told - worker.unspent

    @invariant()
    def all_money_is_somewhere(self) -> None:
        if hasattr(self, "workers"):
            held = sum(worker.unspent for worker in self.workers)
            assert self.purse.spent == self.spent + held - self.unsaid

    @invariant()
    def no_more_is_spent_than_there_is(self) -> None:
        if hasattr(self, "workers"):
            assert self.spent <= self.full + self.overdrawn + self.unsaid


SETTINGS: Final = settings(max_examples=100, stateful_step_count=40)
TestRates, TestPlaces, TestMoney = Rates.TestCase, Places.TestCase, Money.TestCase
TestRates.settings = TestPlaces.settings = TestMoney.settings = SETTINGS
