"""Laws of the script that Redis runs, in a real Redis whose clock is the test's."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.leasing.script import SCRIPT
from router.limits.purse import month
from tests.redis_kit import RedisServer

ALIVE_S, SETTLE_S = 5.0, 1.0
START_S = 1_800_000_000.0


class Store:
    """Limits in a Redis: `call` is what a router's trip does."""

    def __init__(self, server: RedisServer) -> None:
        import redis

        self.redis = redis.Redis(unix_socket_path=str(server.folder / "s"), protocol=2)
        clock = "cmsgpack.unpack(ARGV[3])"
        assert SCRIPT.count("redis.call('TIME')") == 1
        self._script = self.redis.register_script(SCRIPT.replace("redis.call('TIME')", clock))

    def call(self, who: str, now: float, word: tuple[Any, ...]) -> tuple[bool, list[float]]:
        """Whether it settles, and the grant: units, wait_s, left, reset_s, period."""
        pack = msgspec.msgpack.encode
        micros = round(now * 1e6)
        head = (who, int(ALIVE_S * 1e6), int(SETTLE_S * 1e6))
        args = [pack(head), pack([word]), pack((micros // 1_000_000, micros % 1_000_000))]
        reply = msgspec.msgpack.decode(self._script(keys=["{t}:routers", "{t}:settled", "{t}:limit"], args=args))
        return reply[2], reply[3][0]

    def open(self, now: float) -> float:
        """Empties it and lets it settle; returns the moment from which it gives."""
        self.redis.flushall()
        settles, grant = self.call("first", now, (2, 1, 0, 1, 1, 0, 0))
        assert settles
        assert grant[0] == 0
        self.redis.delete("{t}:limit")
        return now + SETTLE_S


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """Each example opens it anew."""
    with RedisServer() as server:
        yield Store(server)


@dataclass
class Router:
    """One that tells the truth, and of which all that it holds may be spent at any moment."""

    name: str
    held: float = 0.0
    heard_at: float = 0.0


@dataclass
class Fleet:
    store: Store
    now: float
    routers: list[Router]
    spent: list[tuple[float, float]] = field(default_factory=list)
    born: int = 0

    def ask(self, router: Router, term: tuple[float, float], wanted: float, least: float, lost: bool) -> None:
        if router.heard_at < self.now - ALIVE_S:
            router.held = 0  # cut off for so long: what it held meanwhile is told of in docs/operations.md
        word = (1, *term, wanted, min(least, wanted), 0, router.held, 0, term[1])
        _, grant = self.store.call(router.name, self.now, word)
        router.heard_at = self.now
        if not lost:
            router.held += grant[0]

    def spend(self, router: Router, share: float) -> None:
        if router.heard_at < self.now - ALIVE_S:
            return  # and lived by its part, see `leasing.shares`
        units = int(router.held * share)
        router.held -= units
        self.spent.append((self.now, units))

    def die(self, index: int) -> None:
        self.born += 1
        self.routers[index] = Router(f"again-{self.born}")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "ask", "lost", "spend", "pass", "leap", "die"]),
        st.integers(0, 3),
        st.sampled_from([0.01, 0.4, 1.0, 1.0]),
    ),
    min_size=20,
    max_size=60,
)


@given(steps=STEPS, per_s=st.sampled_from([0.1, 3.0, 100.0, 5000.0]), burst=st.sampled_from([1.0, 6.0, 600.0]))
@settings(max_examples=100)
def test_no_window_holds_more_than_its_burst_and_rate(
    store: Store, steps: list[tuple[str, int, float]], per_s: float, burst: float
) -> None:
    """Four routers ask, spend, lose answers and die; whole units, none larger than half the burst."""
    fleet = Fleet(store, store.open(START_S), [Router(name) for name in "abcd"])
    for what, index, share in steps:
        router = fleet.routers[index]
        match what:
            case "ask" | "lost":
                fleet.ask(router, (per_s, burst), max(1, int(share * burst / 2)), 1.0, what == "lost")
            case "spend":
                for each in fleet.routers:
                    fleet.spend(each, share)
            case "pass":
                fleet.now += share * (ALIVE_S - 1)
                for each in fleet.routers:
                    fleet.ask(each, (per_s, burst), 0, 0, False)
            case "leap":
                fleet.now += share * 1e6
            case "die":
                fleet.die(index)
    for start, (since, _) in enumerate(fleet.spent):
        total = 0.0
        for at, units in fleet.spent[start:]:
            total += units
            assert total <= burst + per_s * (at - since) + 1e-3


def test_all_of_a_rate_can_be_had(store: Store) -> None:
    """Four who want more than there is, each tick: together the burst, and from then on the rate.

    Less what time would have brought while it was not yet told that the first slices were spent: a tick's.
    """
    now, had = store.open(START_S), 0.0
    for tick in range(600):
        for name in "abcd":
            _, grant = store.call(name, now + tick * 0.1, (1, 100.0, 600.0, 75.0, 1.0, 0, 0, 0, 600.0))
            had += grant[0]
    assert 600 + 100 * 59.8 - 4 <= had <= 600 + 100 * 59.9


@given(steps=STEPS, count=st.integers(1, 20))
@settings(max_examples=40)
def test_no_place_is_given_twice(store: Store, steps: list[tuple[str, int, float]], count: int) -> None:
    now = store.open(START_S)
    routers = [Router(name) for name in "abcd"]
    born = 0
    for what, index, share in steps:
        router = routers[index]
        match what:
            case "ask" | "lost":
                _, grant = store.call(router.name, now, (2, count, 0, 1 + int(share * count), 1, 0, router.held))
                router.heard_at = now
                if what == "ask":
                    router.held += grant[0]
            case "spend":
                router.held -= int(router.held * share)  # requests end; Redis is told later
            case "pass" | "leap":
                now += share * 4.0
                for each in routers:  # who lives is heard of
                    store.call(each.name, now, (2, count, 0, 0, 0, 0, each.held))
            case "die":
                born += 1
                routers[index] = Router(f"again-{born}")
        assert sum(each.held for each in routers) <= count


def test_places_of_the_dead_come_back_and_those_of_the_living_stay(store: Store) -> None:
    now = store.open(START_S)
    word = (2, 10, 0, 6, 1, 0, 0)
    assert store.call("dead", now, word)[1][0] == 6
    assert store.call("living", now, word)[1][0] == 4
    assert store.call("third", now + ALIVE_S - 0.1, word)[1][0] == 0
    store.call("living", now + ALIVE_S - 0.1, (2, 10, 0, 0, 0, 0, 4))
    assert store.call("third", now + ALIVE_S + 0.1, word)[1][0] == 6


def money(
    limit: float, used: float = 0.0, period: int = -1, wanted: float = 0.0, known: float = 0.0
) -> tuple[Any, ...]:
    return 3, 0, limit, wanted, min(wanted, 1.0), used, period, known, period if known else -1


def test_money_counts_what_each_has_taken_whatever_it_said_before(store: Store) -> None:
    """An answer that was lost is taken back by the next word; a Redis that was set back is put right by it."""
    now = store.open(START_S)
    today = int(now // 86400)
    assert store.call("a", now, money(1000, wanted=600))[1][0] == 600
    assert store.call("b", now, money(1000, wanted=600))[1][0] == 400
    _, lost = store.call("b", now, money(1000, used=0, period=today, wanted=100))
    assert lost[0] == 100, "it never got the 400, so they are there again"
    store.redis.delete("{t}:limit")
    assert store.call("a", now, money(1000, used=600, period=today))[1][2] == 400
    assert store.call("b", now, money(1000, used=100, period=today))[1][2] == 300


def test_what_the_ledger_knows_is_spent_at_least(store: Store) -> None:
    now = store.open(START_S)
    today = int(now // 86400)
    assert store.call("a", now, money(1000, period=today, known=900))[1][2] == 100
    assert store.call("a", now, money(1000, used=0, period=today, known=300))[1][2] == 100
    tomorrow = now + 86400
    assert store.call("a", tomorrow, money(1000, period=today, known=900))[1][2] == 1000


def test_a_clock_that_is_set_back_opens_no_budget_twice(store: Store) -> None:
    midnight = (START_S // 86400 + 1) * 86400
    store.open(midnight - 2)
    today = int(midnight // 86400)
    assert store.call("a", midnight, money(1000, wanted=900))[1][0] == 900
    store.redis.delete("{t}:settled")
    _, back = store.call("b", midnight - 3600, money(1000, wanted=900))
    assert (back[0], back[4]) == (100, today)
    store.redis.zadd("{t}:routers", {"b": (midnight + 9) * 1e6})
    _, again = store.call("a", midnight + 1, money(1000, used=900, period=today, wanted=10))
    assert again[0] == 0
    assert again[1] == pytest.approx(86399)


def test_a_clock_that_is_set_back_stops_no_rate_and_keeps_no_dead(store: Store) -> None:
    now = store.open(START_S)
    word = (1, 10.0, 10.0, 10.0, 1.0, 0, 0, 0, 10.0)
    assert store.call("dead", now, word)[1][0] == 10
    assert store.call("a", now, word)[1][0] == 0
    for since in range(5):
        store.call("a", now - 3600 + since, (1, 10.0, 10.0, 0, 0, 0, 0, 0, 10.0))
    settles, grant = store.call("a", now - 3600 + ALIVE_S + 0.1, word)
    assert not settles
    assert grant[0] == 10, "time has filled it, and what the dead held is gone"


def test_a_redis_that_knows_nobody_listens_before_it_gives(store: Store) -> None:
    """All were alive and held everything; then its data is gone, or they were all silent for too long."""
    now = store.open(START_S)
    assert store.call("a", now, (2, 10, 0, 10, 1, 0, 0))[1][0] == 10
    store.redis.flushall()
    settles, grant = store.call("b", now + 0.1, (2, 10, 0, 10, 1, 0, 0))
    assert (settles, grant[0]) == (True, 0)
    store.call("a", now + 0.5, (2, 10, 0, 0, 0, 0, 10))
    settles, grant = store.call("b", now + 0.1 + SETTLE_S, (2, 10, 0, 10, 1, 0, 0))
    assert (settles, grant[0]) == (False, 0)


def test_a_rate_that_was_forgotten_is_what_routers_believe_and_owe(store: Store) -> None:
    now = store.open(START_S)
    assert store.call("a", now, (1, 10.0, 100.0, 0, 0, 0, 0, 30.0, 40.0))[1][2] == 40
    assert store.call("b", now, (1, 10.0, 100.0, 0, 0, 0, 0, 30.0, 80.0))[1][2] == 10
    assert store.call("c", now, (1, 10.0, 100.0, 0, 0, 0, 0, 30.0, 80.0))[1][2] == 0, "never a debt"


def test_a_request_larger_than_the_burst_passes_when_it_is_full(store: Store) -> None:
    now = store.open(START_S)
    _, grant = store.call("a", now, (1, 10.0, 100.0, 250.0, 250.0, 0, 0, 0, 100.0))
    assert (grant[0], grant[2]) == (250, -150)
    store.call("a", now, (1, 10.0, 100.0, 0, 0, 0, 0, 0, 100.0))
    _, grant = store.call("a", now + 1, (1, 10.0, 100.0, 1.0, 1.0, 0, 0, 0, 100.0))
    assert (grant[0], grant[1]) == (0, pytest.approx(14.1))


def test_months_are_those_of_the_calendar(store: Store) -> None:
    """Each day of four centuries has its month, and the month its end, as the calendar has them."""
    start = SCRIPT.index("local function month(day)")
    function = SCRIPT[start : SCRIPT.index("local function money")]
    script = (
        function
        + """
    local found = {}
    for day = tonumber(ARGV[1]), tonumber(ARGV[2]) do
      local number, next_day = month(day)
      found[#found + 1] = number
      found[#found + 1] = next_day
    end
    return found
    """
    )
    days = (datetime(2400, 3, 2, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)).days
    first = (datetime(2000, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(days=1)
    found = store.redis.eval(script, 0, first, first + days)
    for day, number, next_day in zip(range(first, first + days), found[::2], found[1::2], strict=False):
        period = month(day * 86400.0)
        assert (number, (next_day - day) * 86400.0) == (period.number, period.left_s)


def test_what_is_given_back_is_there_for_others_and_never_more_than_the_burst(store: Store) -> None:
    now = store.open(START_S)
    assert store.call("a", now, (1, 10.0, 10.0, 8.0, 1.0, 0, 0, 0, 10.0))[1][2] == 2
    assert store.call("a", now, (1, 10.0, 10.0, 0, 0, 3.0, 5.0, 0, 10.0))[1][2] == 5
    assert store.call("a", now + 9, (1, 10.0, 10.0, 0, 0, 9.0, 0.0, 0, 10.0))[1][2] == 10


def test_after_long_without_it_a_rate_is_no_more_than_a_router_believes(store: Store) -> None:
    """Its data is of a minute ago: what that says is left was used since, by all who went on with their parts."""
    now = store.open(START_S)
    assert store.call("a", now, (1, 10.0, 100.0, 0, 0, 0, 0, 0, 100.0))[1][2] == 100
    assert store.call("a", now + 1, (1, 10.0, 100.0, 50.0, 1.0, 0, 0, 90.0, 4.0, 1))[1][0] == 4
    assert store.call("b", now + 1, (1, 10.0, 100.0, 50.0, 1.0, 0, 0, 90.0, 60.0, 1))[1][0] == 0
