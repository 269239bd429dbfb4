"""What a limit says, apart from how much of it is used: enough to make its source, here or above."""

from dataclasses import dataclass
from math import floor
from typing import Final, Literal, TypeAlias

from router.limits.bucket import Bucket
from router.limits.lease import slice_of
from router.limits.purse import Purse
from router.limits.slots import Slots
from router.limits.source import Source
from router.model.limits import Limits

_MINUTE_S: Final = 60.0
BUDGET_IN_STOCK: Final = 0.01
"""Of a budget, with all workers together: at midnight it counts for the day that is over, whoever spends it then."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many units a second, and `burst` at one moment."""

    per_s: float
    burst: float

    @property
    def full(self) -> float:
        """What an unused one has to give."""
        return self.burst


@dataclass(frozen=True, slots=True)
class Places:
    """So many at one time."""

    count: int

    @property
    def full(self) -> float:
        return self.count


@dataclass(frozen=True, slots=True)
class Money:
    """So many nano-dollars a day or a month, UTC."""

    limit: int
    period: Literal["day", "month"]

    @property
    def full(self) -> float:
        return self.limit


Terms: TypeAlias = Rate | Places | Money


def terms_of(limits: Limits) -> dict[str, Terms]:
    """By the names that limits have in ids, headers, logs and metrics."""
    terms: dict[str, Terms] = {}
    for name, a_minute in (("rpm", limits.rpm), ("tpm", limits.tpm)):
        if a_minute is not None:
            terms[name] = Rate(a_minute / _MINUTE_S, max(1.0, a_minute * limits.burst_share))
    if limits.concurrent is not None:
        terms["concurrent"] = Places(limits.concurrent)
    if limits.day_nano_usd is not None:
        terms["day_usd"] = Money(limits.day_nano_usd, "day")
    if limits.month_nano_usd is not None:
        terms["month_usd"] = Money(limits.month_nano_usd, "month")
    return terms


def shadowed(limits: Limits) -> frozenset[str]:
    """The names, as above, of those that refuse nobody yet."""
    return frozenset(name.replace("_nano", "") for name in limits.shadow)


def largest(terms: Terms) -> float:
    """What is larger never passes: a whole minute's units, all places, all the money."""
    return max(terms.burst, terms.per_s * _MINUTE_S) if isinstance(terms, Rate) else terms.full


def source_of(terms: Terms) -> Source:
    """A full one."""
    match terms:
        case Rate(per_s, burst):
            return Bucket(per_s, burst)
        case Places(count):
            return Slots(count)
        case Money(limit):
            return Purse(limit)


def adapt(source: Source, terms: Terms, now: float) -> None:
    """Other figures for what is in use: what was taken stays taken, and what is left of a rate stays left."""
    match source, terms:
        case Bucket(), Rate(per_s, burst):
            source.left(now)  # by the old rate up to now
            source.rate_per_s, source.burst, source.largest = per_s, burst, largest(terms)
            source.put(0.0, now)  # no more than the new burst
        case Slots(), Places(count):
            source.count = count
        case Purse(), Money(limit):
            source.limit = limit


def stock_of(terms: Terms, holders: int) -> int:
    """What each of several workers may keep in stock."""
    if isinstance(terms, Money):
        return floor(terms.limit * BUDGET_IN_STOCK / holders)
    return slice_of(terms.full, holders)
