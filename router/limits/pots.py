"""The superior of leases: hands out units of each limit to holders, and knows how many each may still have."""

from collections.abc import Iterable
from math import ceil, floor
from typing import Final

from router.limits.lease import ASK_AGAIN_S, Ask, Grant
from router.limits.source import SLACK, Source

UNKNOWN_WAIT_S: Final = ASK_AGAIN_S[1]
"""A holder may know of a limit before its superior does: both read the same file, one of them first."""


class _Pot:
    """One limit: where its units come from, and what lies with each holder."""

    __slots__ = ("holders", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.holders: dict[str, float] = {}

    def tell(self, now: float) -> None:
        """What lies with others is no longer the source's to refill."""
        self.source.lend(sum(self.holders.values()), now)


class Pots:
    """All limits that are shared. Holders are known by name; one who never asked has nothing."""

    def __init__(self) -> None:
        self._pots: dict[str, _Pot] = {}

    def set(self, limit: str, source: Source) -> None:
        """A limit, new or with another source; what lies with holders stays with them."""
        pot = self._pots.get(limit)
        if pot is None:
            self._pots[limit] = _Pot(source)
        else:
            pot.source = source

    def drop(self, limit: str) -> None:
        """A limit that is no more."""
        self._pots.pop(limit, None)

    def outstanding(self, limit: str) -> float:
        """What lies with holders, as far as they have told."""
        pot = self._pots.get(limit)
        return sum(pot.holders.values()) if pot is not None else 0.0

    def others(self, limit: str, holder: str) -> list[str]:
        """Who else has something, as far as they have told."""
        pot = self._pots.get(limit)
        return [name for name, held in pot.holders.items() if held > 0.0 and name != holder] if pot is not None else []

    def answer(self, holder: str, asks: Iterable[Ask], now: float) -> list[Grant]:
        """One grant for each ask, in their order."""
        return [self._grant(holder, ask, now) for ask in asks]

    def forget(self, holder: str, now: float) -> None:
        """A holder is gone, with all that it had."""
        for pot in self._pots.values():
            held = pot.holders.pop(holder, 0.0)
            if held:
                pot.tell(now)
                pot.source.forfeit(held, now)

    def _grant(self, holder: str, ask: Ask, now: float) -> Grant:
        pot = self._pots.get(ask.limit)
        if pot is None:
            return Grant(ask.limit, 0.0, UNKNOWN_WAIT_S)
        source = pot.source
        pot.holders[holder] = ask.held
        pot.tell(now)
        if ask.returned:
            source.put(ask.returned, now)
        units, wait_s = _draw(source, ask, now)
        if units:
            pot.holders[holder] += units
            pot.tell(now)
        elif not ask.held:
            del pot.holders[holder]
        return Grant(ask.limit, units, wait_s, source.left(now), source.reset_s(now))


def _draw(source: Source, ask: Ask, now: float) -> tuple[float, float]:
    """Whole units only, and none where the first who waits could not use them: parts would lie about everywhere."""
    if not ask.wanted:
        return 0.0, 0.0
    least = max(1.0, ask.least)
    wanted = ceil(ask.wanted)
    drawn = source.draw(wanted, now)
    units = floor(drawn + SLACK)
    if units < least:
        source.put(drawn, now)
        wait_s = source.take(least, now)  # more than the burst passes a full bucket
        return (0.0, wait_s) if wait_s else (least, 0.0)
    if units < wanted:
        source.put(drawn - units, now)
        return units, source.take(1.0, now)  # not one more is there, or `units` had it
    return units, 0.0
