"""Four routers on one Redis that is killed, emptied, set back and stopped. Redis is a real one, and so are its ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import pytest

from router.jobs.redis_leases import RedisLeases
from router.leasing import redis_pots
from router.leasing.settings import OnLoss, RedisSettings
from router.limits.lease import ASK, Lease
from router.limits.terms import Money, Places, Rate
from router.model.fleet import Secret
from tests.redis_kit import RedisServer

RPM, PLACES, MONEY = "key/acme/rpm", "key/acme/concurrent", "key/acme/day_usd"
COUNT = 40


class Member:
    """One router's part: it takes as requests do, and counts what it got."""

    def __init__(self, settings: RedisSettings) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.surprises: list[tuple[str, str]] = []
        self.leases = RedisLeases(
            asyncio.get_running_loop(),
            settings,
            lambda name, **said: self.events.append((name, said)),
            lambda job, error: self.surprises.append((job, error)),
        )
        self.places = self.leases.source(PLACES, Places(COUNT))
        self.money = self.leases.source(MONEY, Money(1_000_000, "day"))
        self.got: list[float] = []
        self.refused = 0

    def rate(self, terms: Rate) -> Lease:
        return self.leases.source(RPM, terms)

    async def take(self, lease: Lease, units: float = 1.0) -> bool:
        """As a request: waits where only the superior knows."""
        until = monotonic() + self.leases.patience_s
        while True:
            now = monotonic()
            wait_s = lease.take(units, now)
            if wait_s != ASK or now >= until:
                return wait_s == 0.0
            woken = asyncio.Event()
            self.leases.ask(lease.limit, woken.set)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - now):
                    await woken.wait()

    async def offer(self, lease: Lease, per_s: float) -> None:
        """So many requests a second, until it is cancelled."""
        due = monotonic()
        while True:
            due += 1 / per_s
            await asyncio.sleep(due - monotonic())
            if await self.take(lease):
                self.got.append(monotonic())
            else:
                self.refused += 1

    def said(self, name: str) -> int:
        return sum(event == name for event, _ in self.events)


@contextlib.asynccontextmanager
async def fleet(url: str, count: int = 4, on_loss: OnLoss = "share") -> AsyncIterator[list[Member]]:
    members = [Member(RedisSettings(Secret(url), on_loss=on_loss, routers=count)) for _ in range(count)]
    await asyncio.gather(*(each.leases.start() for each in members))
    await until(lambda: all(each.leases.up for each in members))
    try:
        yield members
    finally:
        for each in members:
            await each.leases.stop()
        assert [each.surprises for each in members] == [[]] * count


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def offered(members: list[Member], terms: Rate, per_s: float) -> AsyncIterator[None]:
    """Each offers so much while the block runs."""
    tasks = [asyncio.create_task(each.offer(each.rate(terms), per_s)) for each in members]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def overshoot(members: list[Member], terms: Rate) -> float:
    """By how much the worst window of all that was got exceeds burst + rate × T."""
    lowest, worst = 0.0, 0.0
    for count, at in enumerate(sorted(at for each in members for at in each.got)):
        lowest = min(lowest, count - terms.per_s * at) if count else -terms.per_s * at
        worst = max(worst, count + 1 - terms.per_s * at - lowest - terms.burst)
    return worst


TERMS = Rate(per_s=100.0, burst=60.0)


@pytest.mark.timed
@pytest.mark.parametrize("data", ["empty", "old"])
async def test_killed_and_started_again_no_window_holds_more(data: str) -> None:
    """All of them lose it at once, keep to their parts, and tell what they owe: nobody notices in the sum."""
    with RedisServer() as server:
        async with fleet(server.url) as members, offered(members, TERMS, 75.0):
            if data == "old":
                await asyncio.sleep(0.5)
                server.save()
            await asyncio.sleep(1.5)
            server.kill()
            await until(lambda: not any(each.leases.up for each in members))
            lost_at = monotonic()
            await asyncio.sleep(2.0)
            without = [sum(at > lost_at for at in each.got) for each in members]
            server.start()
            await until(lambda: all(each.leases.up for each in members))
            back_at = monotonic()
            await asyncio.sleep(2.0)
            after = sum(at > back_at + 0.5 for each in members for at in each.got)
    assert overshoot(members, TERMS) <= 4.0  # one a router
    assert all(0.8 * 50 <= count <= 1.2 * 50 + 15 for count in without), without
    assert after >= 0.8 * 150
    assert all(each.said("redis_lost") == each.said("redis_back") >= 1 for each in members)


@pytest.mark.timed
async def test_a_redis_that_hangs_is_given_up_before_anybody_is_refused_for_it() -> None:
    """Half of what the parts allow is offered: none of it may fail, when it stops, hangs and goes on."""
    with RedisServer() as server:
        async with fleet(server.url) as members, offered(members, TERMS, 12.0):
            await asyncio.sleep(0.5)
            server.stop()
            await asyncio.sleep(2.0)
            assert not any(each.leases.up for each in members)
            server.go_on()
            await until(lambda: all(each.leases.up for each in members))
            await asyncio.sleep(0.5)
    assert sum(each.refused for each in members) == 0


async def test_places_that_are_taken_stay_taken_when_redis_forgets_them() -> None:
    with RedisServer() as server:
        async with fleet(server.url) as members:
            for each in members[:2]:
                assert all([await each.take(each.places) for _ in range(15)])
            server.kill()
            server.start()
            await until(lambda: all(each.leases.up and each.said("redis_back") for each in members))
            got = 0
            for each in members:
                while await each.take(each.places):
                    got += 1
            assert got <= COUNT - 30
            members[0].places.put(5, monotonic())
            await asyncio.sleep(0.5)
            async with asyncio.timeout(5):
                while not await members[3].take(members[3].places):
                    await asyncio.sleep(0.1)


@pytest.mark.parametrize(("first", "then", "left"), [(1, 1, 2), (2, -2, 4)], ids=["taken", "given back"])
async def test_what_changes_while_redis_is_told_what_is_held_is_told_too(
    monkeypatch: pytest.MonkeyPatch, first: int, then: int, left: int
) -> None:
    with RedisServer() as server:
        async with fleet(server.url, 2) as [member, other]:
            here, there = (each.leases.source("key/few/concurrent", Places(4)) for each in (member, other))
            server.kill()
            await until(lambda: not member.leases.up and not other.leases.up)
            assert all([await member.take(here) for _ in range(first)])
            await asyncio.sleep(0.3)  # nothing idle is left here
            told = member.leases.pots._trip

            async def tell(asks: Any, accounts: Any, now: float) -> Any:
                nonlocal then
                reply = await told(asks, accounts, now)
                if not member.leases.up and not reply.settling and then:
                    change, then = then, 0
                    here.put(max(0, -change), monotonic())
                    assert all([await member.take(here) for _ in range(change)])
                    await asyncio.sleep(0.3)
                return reply

            monkeypatch.setattr(member.leases.pots, "_trip", tell)
            server.start()
            await until(lambda: member.leases.up and other.leases.up)
            await asyncio.sleep(0.5)
            assert sum([await other.take(there) for _ in range(5)]) == left


async def test_money_that_was_spent_without_redis_is_told() -> None:
    with RedisServer() as server:
        async with fleet(server.url) as members:
            one, other = members[:2]
            assert await one.take(one.money, 400_000)
            server.kill()
            await until(lambda: not any(each.leases.up for each in members))
            assert await one.take(one.money, 100_000), "its part of what was left is 150,000"
            assert not await one.take(one.money, 100_000)
            server.start()
            await until(lambda: all(each.leases.up for each in members))
            assert not await other.take(other.money, 600_000)
            assert await other.take(other.money, 400_000)


async def test_a_router_that_was_killed_leaves_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_pots, "ALIVE_S", 1.5)
    with RedisServer() as server:
        async with fleet(server.url, 2) as members:
            dead, living = members
            assert all([await dead.take(dead.places) for _ in range(COUNT)])
            for task in dead.leases._tasks:
                task.cancel()
            assert not await living.take(living.places)
            async with asyncio.timeout(5):
                while not await living.take(living.places):
                    await asyncio.sleep(0.1)
            assert living.leases.pots.routers == 1


async def test_a_router_that_ends_leaves_at_once() -> None:
    with RedisServer() as server:
        async with fleet(server.url, 2) as members:
            leaving, staying = members
            assert all([await leaving.take(leaving.places) for _ in range(COUNT)])
            await leaving.leases.stop()
            await asyncio.sleep(0.15)
            assert await staying.take(staying.places)


@pytest.mark.parametrize(("on_loss", "got"), [("share", 15), ("open", 200), ("closed", 0)])
async def test_without_redis_holds_what_the_operator_chose(on_loss: OnLoss, got: int) -> None:
    """A start without it: a fourth of a burst of 60, all, or nothing."""
    with RedisServer() as server:
        server.kill()
        member = Member(RedisSettings(Secret(server.url), on_loss=on_loss, routers=4))
        await member.leases.start()
        try:
            assert not member.leases.up
            assert [name for name, _ in member.events] == ["redis_lost"]
            lease = member.rate(Rate(per_s=0.01, burst=60.0))
            assert sum([await member.take(lease) for _ in range(200)]) == got
        finally:
            await member.leases.stop()


async def test_a_wrong_password_is_a_loss_that_says_so() -> None:
    with RedisServer() as server:
        server.command("CONFIG", "SET", "requirepass", "right")
        member = Member(RedisSettings(Secret(f"unix://:wrong@{server.url.removeprefix('unix://')}")))
        await member.leases.start()
        await member.leases.stop()
        [(name, said)] = member.events
        assert name == "redis_lost"
        assert "wrong" not in str(said["reason"]).replace("WRONGPASS", "")
        assert "invalid username-password pair" in str(said["reason"])


@pytest.mark.timed
async def test_trips_are_ten_a_second_at_most_however_many_wait() -> None:
    with RedisServer() as server:
        async with fleet(server.url, 1) as [member], offered([member], TERMS, 300.0):
            await asyncio.sleep(1.0)
            before, since = member.leases.pots.trips, monotonic()
            await asyncio.sleep(2.0)
            trips, took_s = member.leases.pots.trips - before, monotonic() - since
    assert 5 <= trips <= 10 * took_s + 2
