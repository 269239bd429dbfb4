"""The superior of a router's leases: limits that are kept in Redis, for all routers of one prefix.

It answers as `limits.pots` does. What it says of this router is absolute (what is held, and what was taken of a budget
since its period began), so a word that was lost costs nothing but time.
"""

import asyncio
import importlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from router.leasing.script import SCRIPT
from router.leasing.settings import RedisSettings
from router.limits.lease import Ask, Grant
from router.limits.purse import Period, day, month
from router.limits.terms import Money, Places, Rate, Terms

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

TRIP_S: Final = 0.2  # an answer that takes longer is none: whoever waits for a lease waits for it
ALIVE_S: Final = 5.0  # a router that is not heard of for so long is dead, and what it held is others' again
SETTLE_S: Final = 1.0  # that a Redis which knows of nobody only listens; routers look for it far more often
ASKS_MAX: Final = 500  # of one call: Redis does nothing else meanwhile, some milliseconds

_encode: Final = msgspec.msgpack.Encoder().encode


class Lost(Exception):  # noqa: N818 - a state of things, and nobody's error
    """Redis does not answer, or knows too little to decide; the text says which, and holds no secret."""


class SettlingError(Lost):
    """Redis is there, and first waits for what all who live have to say."""


class _Given(msgspec.Struct, array_like=True, frozen=True):
    units: float
    wait_s: float
    left: float
    reset_s: float
    period: int  # of a budget, as Redis has it


class _Reply(msgspec.Struct, array_like=True, frozen=True):
    wall_s: float
    routers: int
    settling: bool
    given: list[_Given]


_decode: Final = msgspec.msgpack.Decoder(_Reply, strict=False).decode


class Account:
    """What this router knows of one limit."""

    __slots__ = (
        *("distrusts", "held", "left", "owed", "period", "reset_s", "seed", "seeded", "terms", "told_at"),
        *("untold", "used"),
    )

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.held = 0.0  # what lies here, at most; of places all that are held
        self.used = 0.0  # of a budget: taken less returned, in this period
        self.period = -1  # Redis' count of them
        self.seed, self.seeded = 0.0, -1  # what the ledger knew to be spent, and in which period
        self.owed = 0.0  # of a rate: spent without Redis, and not told yet
        self.distrusts = False  # Redis' word of this rate: for long it heard of nobody
        self.left: float | None = None  # of the whole limit, when Redis last said it
        self.reset_s = self.told_at = 0.0
        self.untold = False  # what is held has changed while the last word of it was under way

    def roll(self, wall_s: float) -> None:
        """A budget's period may have ended. `wall_s`: Redis' clock, as far as it is known."""
        if isinstance(self.terms, Money) and (number := period_of(self.terms, wall_s).number) != self.period:
            self.period, self.used = number, 0.0

    def believed(self, now: float) -> float:
        """What should be left of a rate, as far as this router knows."""
        assert isinstance(self.terms, Rate)
        if self.left is None:
            return self.terms.burst
        return min(self.terms.burst, self.left + (now - self.told_at) * self.terms.per_s)

    def book(self, ask: Ask, units: float) -> None:
        """Units came here for this ask, whoever gave them."""
        self.held = ask.held + units
        self.used = max(0.0, self.used + units - ask.returned)
        if self.left is not None:
            self.left -= units - ask.returned


class RedisPots:
    """One router's connection to them. Not for several tasks at once: asks are answered one trip after the other."""

    def __init__(self, settings: RedisSettings, holder: str = "") -> None:
        """`holder`: who this router is; a new name at each start, since what it held before is nobody's."""
        self.holder = holder or secrets.token_hex(8)
        self.routers = settings.routers  # that live, as Redis last said
        self.trips = self.failures = 0
        self.last_s = 0.0  # that the last trip took
        self.accounts: dict[str, Account] = {}
        self._settings = settings
        self._keys = f"{{{settings.prefix}}}:"  # the braces put all of them into one slot of a cluster
        self._spent: Mapping[str, int] = {}  # of budgets, as the ledger had it, and
        self._spent_at = 0.0  # when, in Unix seconds
        self._redis: Redis | None = None
        self._script: AsyncScript | None = None
        self._ahead_s = time() - monotonic()  # of Redis' clock, before the monotonic one

    def add(self, limit: str, terms: Terms) -> None:
        """One limit more, or with other figures."""
        account = self.accounts.setdefault(limit, Account(terms))
        account.terms = terms
        if isinstance(terms, Money) and limit in self._spent:
            account.seed, account.seeded = float(self._spent[limit]), period_of(terms, self._spent_at).number

    def begin(self, spent: Mapping[str, int], wall_s: float) -> None:
        """What the ledger knows to be spent of budgets, in the periods of this moment (Unix seconds)."""
        self._spent, self._spent_at = spent, wall_s
        for limit, account in self.accounts.items():
            self.add(limit, account.terms)

    def wall_s(self, now: float) -> float:
        """Redis' clock, as far as it is known: this machine's may jump."""
        return now + self._ahead_s

    async def answer(self, asks: Sequence[Ask]) -> list[Grant]:
        """One grant for each ask, of at most ASKS_MAX, in their order. Without asks this router shows that it lives.

        Raises Lost. Then nothing was granted, and the asks are still to be answered.
        """
        began = monotonic()
        accounts = [self.accounts[ask.limit] for ask in asks]
        held = [account.held for account in accounts]
        reply = await self._trip(asks, accounts, began)
        now = monotonic()
        self.last_s = now - began
        self._ahead_s = reply.wall_s - now
        if reply.settling:  # it does not know all of them yet
            self.routers = max(self.routers, reply.routers)
            raise SettlingError("it knows of no router yet, and waits for what they hold")
        self.routers = reply.routers
        return [_take_in(*each, now) for each in zip(asks, accounts, reply.given, held, strict=True)]

    async def report(self) -> None:
        """Tells all that is held and was taken, after Redis was lost. Raises Lost."""
        asks = [
            Ask(limit, 0.0, 0.0, account.held)
            for limit, account in self.accounts.items()
            if not isinstance(account.terms, Rate) and (account.held or account.used or account.seed)
        ]
        for start in range(0, max(1, len(asks)), ASKS_MAX):
            await self.answer(asks[start : start + ASKS_MAX])

    async def leave(self) -> None:
        """The end of this router: what it still holds is free at once. Raises Lost."""
        redis = await self._connected()
        await self._within(redis.zrem(f"{self._keys}routers", self.holder))

    async def close(self) -> None:
        """Ends the connection; says nothing to Redis."""
        redis, self._redis, self._script = self._redis, None, None
        if redis is not None:
            await redis.aclose()

    async def _trip(self, asks: Sequence[Ask], accounts: Sequence[Account], now: float) -> _Reply:
        wall_s = self.wall_s(now)
        words = [_word(ask, account, now, wall_s) for ask, account in zip(asks, accounts, strict=True)]
        keys = [f"{self._keys}routers", f"{self._keys}settled", *(f"{self._keys}{ask.limit}" for ask in asks)]
        head = (self.holder, int(ALIVE_S * 1e6), int(SETTLE_S * 1e6))
        self.trips += 1
        try:
            await self._connected()
            assert self._script is not None
            return _decode(await self._within(self._script(keys=keys, args=[_encode(head), _encode(words)])))
        except Lost:
            self.failures += 1
            raise
        except msgspec.MsgspecError:
            self.failures += 1
            raise Lost("it answers what this version does not understand") from None

    async def _connected(self) -> "Redis":
        """Raises Lost where the URL cannot be used."""
        if self._redis is None:
            # Slow to load (0.3 s), and an extra: here alone, on a thread, and never where no `redis:` is configured.
            asyncio_redis: Any = await asyncio.to_thread(importlib.import_module, "redis.asyncio")
            retry: Any = await asyncio.to_thread(importlib.import_module, "redis.asyncio.retry")
            backoff: Any = await asyncio.to_thread(importlib.import_module, "redis.backoff")
            ca_file = self._settings.ca_file
            self._redis = asyncio_redis.Redis.from_url(
                self._settings.url.reveal(),
                **({"ssl_ca_certs": ca_file} if ca_file is not None else {}),
                socket_timeout=TRIP_S,
                socket_connect_timeout=TRIP_S,
                retry=retry.Retry(backoff.NoBackoff(), 0),  # the next tick tries again, and knows more
                single_connection_client=False,
                max_connections=1,
                protocol=2,
                client_name="inference-router",
            )
            self._script = cast("Redis", self._redis).register_script(SCRIPT)
        return cast("Redis", self._redis)

    async def _within(self, command: Any) -> Any:
        """A command's answer. Raises Lost where there is none in time, or a refusal."""
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(3 * TRIP_S):  # connecting and asking have each their own time
                return await command
        except (RedisError, OSError, TimeoutError) as error:
            # What refused may be no primary any more: the next trip dials, and finds who is.
            await (await self._connected()).connection_pool.disconnect()
            raise Lost(f"{type(error).__name__}: {error}"[:200]) from None


def period_of(terms: Money, wall_s: float) -> Period:
    """Of a moment in Unix seconds, UTC."""
    return day(wall_s) if terms.period == "day" else month(wall_s)


def _word(ask: Ask, account: Account, now: float, wall_s: float) -> tuple[float, ...]:
    """An ask as the script reads it."""
    match account.terms:
        case Rate(per_s, burst):
            owed, believed = account.owed, account.believed(now)
            word = 1, per_s, burst, ask.wanted, ask.least, ask.returned, ask.held, owed, believed
            return *word, int(account.distrusts)
        case Places(count):
            return 2, count, 0, ask.wanted, ask.least, 0, ask.held
        case Money(limit, period):
            account.roll(wall_s)
            used, monthly = max(0.0, account.used - ask.returned), int(period == "month")
            return 3, monthly, limit, ask.wanted, ask.least, used, account.period, account.seed, account.seeded


def _take_in(ask: Ask, account: Account, given: _Given, held: float, now: float) -> Grant:
    """`held`: here, when it was asked. A stand-in may have given or taken back some since."""
    since = account.held - held
    if given.period != account.period and isinstance(account.terms, Money):
        account.period, account.used = given.period, 0.0
    account.book(ask, given.units)
    account.held += since
    account.owed, account.distrusts, account.untold = 0.0, False, since != 0.0
    account.left, account.reset_s, account.told_at = given.left, given.reset_s, now
    return Grant(ask.limit, given.units, given.wait_s, given.left, given.reset_s)


def book_elsewhere(
    accounts: Mapping[str, Account], asks: Iterable[Ask], grants: Iterable[Grant], wall_s: float
) -> None:
    """What somebody else granted while Redis was away: it is told when it is back."""
    for ask, grant in zip(asks, grants, strict=True):
        account = accounts[ask.limit]
        account.roll(wall_s)
        account.book(ask, grant.units)
