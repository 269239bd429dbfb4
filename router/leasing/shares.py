"""What answers a router's leases while Redis is away: its part of each limit, all that it wants, or nothing.

In `share` each of N routers goes on with 1/N of a limit, N being those that lived when Redis was last heard. So as long
as none of them reaches it, all together keep the limit; where only some have lost it, each adds its part on top. What
was spent meanwhile is told when Redis is back.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from router.leasing.redis_pots import Account, book_elsewhere, period_of
from router.leasing.settings import OnLoss
from router.limits.bucket import Bucket
from router.limits.lease import Ask, Grant
from router.limits.pots import Pots
from router.limits.purse import Purse
from router.limits.slots import Slots
from router.limits.source import Source
from router.limits.terms import Money, Places, Rate, largest

ME: Final = "me"
CLOSED_S: Final = 1.0  # that a refused client waits before it is worth asking again


class Endless:
    """Grants everything. `full`: what is said to be left."""

    def __init__(self, full: float) -> None:
        self._full = full
        self.spent = 0.0

    def take(self, units: float, now: float) -> float:  # noqa: ARG002 - as for every source
        self.spent += units
        return 0.0

    def draw(self, units: float, now: float) -> float:  # noqa: ARG002
        self.spent += units
        return units

    def put(self, units: float, now: float) -> None:  # noqa: ARG002
        self.spent -= units

    def lend(self, outstanding: float, now: float) -> None:
        pass

    def forfeit(self, units: float, now: float) -> None:
        pass

    def left(self, now: float) -> float:  # noqa: ARG002
        return self._full

    def reset_s(self, now: float) -> float:  # noqa: ARG002
        return 0.0


class Nothing(Endless):
    """Grants nothing."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def take(self, units: float, now: float) -> float:  # noqa: ARG002
        return CLOSED_S

    def draw(self, units: float, now: float) -> float:  # noqa: ARG002
        return 0.0


class Shares:
    """Stands in from `begin` until Redis is back. Sources are made as they are asked for."""

    def __init__(self, on_loss: OnLoss, accounts: Mapping[str, Account], routers: int) -> None:
        self._on_loss, self._accounts = on_loss, accounts
        self.routers = routers
        self._pots = Pots()
        self._sources: dict[str, Source] = {}
        self._undrawn: dict[str, Bucket] = {}  # what a rate's part would be if nothing had been taken
        self._periods: dict[str, int] = {}

    def begin(self, routers: int) -> None:
        """Redis is gone, and so many routers share what it knew last."""
        self.routers = routers
        self._pots = Pots()
        for made in (self._sources, self._undrawn, self._periods):
            made.clear()

    def answer(self, asks: Iterable[Ask], now: float, wall_s: float) -> list[Grant]:
        """As `RedisPots.answer`; and it is booked, to be told."""
        asks = tuple(asks)
        for ask in asks:
            account = self._accounts[ask.limit]
            if ask.limit not in self._sources:
                source = self._sources[ask.limit] = self._stand_in(ask.limit, account, now)
                self._pots.set(ask.limit, source)
            if isinstance(account.terms, Money):
                self._turn_page(ask.limit, account.terms, now, wall_s)
        grants = self._pots.answer(ME, asks, now)
        book_elsewhere(self._accounts, asks, grants, wall_s)
        return grants

    def owe(self, now: float, *, long: bool) -> None:
        """Writes into the accounts what rates owe to Redis: what is missing because it was used here.

        `long`: it was away for so long that it was so for others too.

        Never more than a burst, since time has paid what was before. Of budgets and places accounts tell all anyway.
        """
        for limit, source in self._sources.items():
            account = self._accounts.get(limit)
            if account is None or not isinstance(account.terms, Rate):
                continue
            if limit in self._undrawn:
                missing = self._undrawn[limit].left(now) - source.left(now) - self._pots.outstanding(limit)
                account.left, account.told_at = source.left(now) * self.routers, now
                account.distrusts = long
            else:
                missing = source.spent if isinstance(source, Endless) else 0.0
            account.owed = min(account.terms.burst, account.owed + max(0.0, missing))

    def _stand_in(self, limit: str, account: Account, now: float) -> Source:
        if self._on_loss == "closed":
            return Nothing()
        if self._on_loss == "open":
            return Endless(account.terms.full)
        match account.terms:
            case Rate(_, burst) as terms:
                missing = (burst - account.believed(now)) / self.routers
                self._undrawn[limit] = self._bucket(terms, missing, now)
                return self._bucket(terms, missing, now)
            case Places(count):
                return Slots(max(1, count // self.routers))  # what is held already the first ask tells
            case Money(budget):
                left = budget - max(account.seed, account.used) if account.left is None else account.left
                return Purse(max(0.0, left) / self.routers)

    def _bucket(self, terms: Rate, missing: float, now: float) -> Bucket:
        bucket = Bucket(terms.per_s / self.routers, max(1.0, terms.burst / self.routers), largest(terms))
        bucket.put(-missing, now)
        return bucket

    def _turn_page(self, limit: str, terms: Money, now: float, wall_s: float) -> None:
        """A budget's next period begins with all of it."""
        purse = self._sources[limit]
        if not isinstance(purse, Purse):
            return
        period = period_of(terms, wall_s)
        begun = self._periods.setdefault(limit, period.number)
        if period.number > begun:
            purse.limit, self._periods[limit] = terms.limit / self.routers, period.number
        purse.begin(period.number, 0.0, now + period.left_s)
